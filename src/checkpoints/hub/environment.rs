//! The variables that the Hub's own programs follow.
#![expect(
    clippy::disallowed_methods,
    reason = "these are the Hub's variables, not settings of ours"
)]

use std::env;
use std::path::PathBuf;

/// The public Hub.
const ENDPOINT: &str = "https://huggingface.co";

/// What the environment says of the Hub.
#[derive(Debug)]
pub(super) struct Environment {
    /// Where models are kept; other programs use it, too.
    pub(super) cache: PathBuf,
    /// The Hub that is asked.
    pub(super) endpoint: String,
    /// Who asks; else what `hf auth login` noted.
    pub(super) token: Option<String>,
    /// Whether nothing may be fetched.
    pub(super) is_offline: bool,
}

impl Environment {
    pub(super) fn read() -> Self {
        let text = |name: &str| {
            let value = env::var(name).ok().map(|value| value.trim().to_owned());
            value.filter(|value| !value.is_empty())
        };
        let folder = |name: &str| text(name).map(PathBuf::from);
        let home = folder("HF_HOME").unwrap_or_else(|| {
            let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
            // A service without a home keeps what it fetches for as long as the machine runs.
            caches.unwrap_or_else(env::temp_dir).join("huggingface")
        });
        let noted = || {
            let path = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            let token = std::fs::read_to_string(path).ok()?.trim().to_owned();
            (!token.is_empty()).then_some(token)
        };
        let is_set = |name: &str| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
        };
        Self {
            cache: folder("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            endpoint: text("HF_ENDPOINT")
                .map_or_else(|| ENDPOINT.to_owned(), |url| url.trim_end_matches('/').to_owned()),
            token: text("HF_TOKEN").or_else(noted),
            is_offline: is_set("HF_HUB_OFFLINE"),
        }
    }
}
