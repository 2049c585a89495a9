//! The environment variables of the Hugging Face Hub's own programs, with their older names.
#![expect(
    clippy::disallowed_methods,
    reason = "these are the Hub's variables, not settings of ours"
)]

use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// The public Hub.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Time limit for a server that sends nothing, if `HF_HUB_DOWNLOAD_TIMEOUT` is not set.
const DEFAULT_SILENCE_MAX: Duration = Duration::from_secs(30);

/// The Hub's configuration, read from the environment.
pub(crate) struct Environment {
    /// The folder of the cache, which other programs share.
    pub(crate) cache: PathBuf,
    /// Base URL of the Hub.
    pub(crate) endpoint: String,
    /// The access token, from `HF_TOKEN` or from the file that `hf auth login` writes.
    pub(crate) token: Option<String>,
    /// True if downloads are forbidden.
    pub(crate) is_offline: bool,
    /// Time limit for a server that sends nothing.
    pub(crate) silence_max: Duration,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let text = |name: &str| {
            let value = env::var(name).ok().map(|value| value.trim().to_owned());
            value.filter(|value| !value.is_empty())
        };
        let folder = |name: &str| text(name).map(|path| expand_home(&path, env::home_dir()));
        let home = folder("HF_HOME").unwrap_or_else(|| {
            let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
            // A service without a home directory keeps its models until the machine restarts.
            caches.unwrap_or_else(env::temp_dir).join("huggingface")
        });
        let token_of_login = || {
            let path = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            let token = std::fs::read_to_string(path).ok()?.trim().to_owned();
            (!token.is_empty()).then_some(token)
        };
        let is_set = |name: &str| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
        };
        Self {
            cache: folder("HF_HUB_CACHE")
                .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| home.join("hub")),
            endpoint: text("HF_ENDPOINT").map_or_else(
                || DEFAULT_ENDPOINT.to_owned(),
                |url| url.trim_end_matches('/').to_owned(),
            ),
            token: text("HF_TOKEN")
                .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
                .or_else(token_of_login),
            is_offline: is_set("HF_HUB_OFFLINE"),
            silence_max: text("HF_HUB_DOWNLOAD_TIMEOUT")
                .and_then(|seconds| seconds.parse().ok())
                .filter(|&seconds| seconds > 0)
                .map_or(DEFAULT_SILENCE_MAX, Duration::from_secs),
        }
    }
}

/// Replaces a leading `~`, which no shell expands in a value from a file.
fn expand_home(path: &str, home: Option<PathBuf>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home,
        (Some(rest), Some(home)) if rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_tilde_is_the_home_directory() {
        let expand = |path| expand_home(path, Some(PathBuf::from("/home/me")));
        assert_eq!(expand("~"), PathBuf::from("/home/me"));
        assert_eq!(expand("~/models"), PathBuf::from("/home/me/models"));
        for path in ["/a/~/b", "~you/b", "a~"] {
            assert_eq!(expand(path), PathBuf::from(path));
        }
        assert_eq!(expand_home("~/models", None), PathBuf::from("~/models"));
    }
}
