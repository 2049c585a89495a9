//! The variables that the Hub's own programs follow.
#![expect(
    clippy::disallowed_methods,
    reason = "these are the Hub's variables, not settings of ours"
)]

use std::env;
use std::path::PathBuf;

use hf_hub::Cache;

/// What the environment says of the Hub.
#[derive(Debug)]
pub(super) struct Environment {
    /// Where models are kept; other programs use it, too.
    pub(super) cache: Cache,
    /// Another Hub than the public one.
    pub(super) endpoint: Option<String>,
    /// Who asks; else what `hf auth login` noted.
    pub(super) token: Option<String>,
    /// Whether nothing may be fetched.
    pub(super) is_offline: bool,
}

impl Environment {
    pub(super) fn read() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let folder = |name: &str| text(name).map(PathBuf::from);
        let home = || {
            let xdg = || Some(folder("XDG_CACHE_HOME")?.join("huggingface"));
            Some(folder("HF_HOME").or_else(xdg)?.join("hub"))
        };
        let is_set = |name: &str| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
        };
        Self {
            cache: folder("HF_HUB_CACHE").or_else(home).map_or_else(Cache::default, Cache::new),
            endpoint: text("HF_ENDPOINT").map(|url| url.trim_end_matches('/').to_owned()),
            token: text("HF_TOKEN"),
            is_offline: is_set("HF_HUB_OFFLINE"),
        }
    }
}
