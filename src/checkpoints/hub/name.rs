//! The ways to name a model: a preset, a repository of the Hub, or a path.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoints::hub::preset::{ModelPreset, nearest_name};

/// The branch that is used if no revision is given.
const DEFAULT_BRANCH: &str = "main";

/// Hosts of the public Hub. A mirror may redirect to them, and they state digests like the mirror.
pub(crate) const PUBLIC_HUB_HOSTS: [&str; 4] =
    ["huggingface.co", "www.huggingface.co", "hf.co", "hub-ci.huggingface.co"];

/// A model as a user may name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelName {
    /// A file or folder.
    Path(PathBuf),
    /// A repository of the Hub.
    Hub(HubModel),
}

/// A repository of the Hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    /// The name as the user wrote it.
    pub written: String,
    /// `owner/name`.
    pub repo: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// The preset, if it was named by one.
    pub preset: Option<&'static ModelPreset>,
}

impl ModelName {
    /// Parses a name. An existing file or folder takes precedence over a preset and an `owner/name`
    /// of the Hub, both with an optional `@revision`. Any other text is a path that does not exist.
    pub fn new(text: &str) -> Self {
        let path = Path::new(text);
        if path.exists() {
            return Self::Path(path.to_owned());
        }
        HubModel::new(text).map_or_else(|| Self::Path(path.to_owned()), Self::Hub)
    }
}

impl HubModel {
    /// Parses a preset or an `owner/name`, with an optional `@revision`, or an address of the Hub.
    /// Returns `None` if the text is none of these.
    pub fn new(text: &str) -> Option<Self> {
        let (name, revision) = match text.split_once("://") {
            Some((scheme, rest)) => parts_of_address(scheme, rest)?,
            None => text.split_once('@').unwrap_or((text, DEFAULT_BRANCH)),
        };
        let preset = ModelPreset::find(name);
        let repo = preset.map_or(name, |preset| preset.repo);
        let (owner, rest) = repo.split_once('/')?;
        let is_part = |part: &str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(is_allowed)
        };
        let is_file = has_weights_extension(Path::new(rest));
        let is_revision = |revision: &str| {
            let mut parts = revision.split('/');
            !revision.is_empty() && parts.all(is_part)
        };
        let is_hub = is_part(owner) && is_part(rest) && !is_file && is_revision(revision);
        is_hub.then(|| Self {
            written: text.to_owned(),
            repo: repo.to_owned(),
            revision: revision.to_owned(),
            preset,
        })
    }
}

/// Returns the repository and the revision of `https://huggingface.co/owner/name`, with an optional
/// `/tree/revision`, or of `hf://owner/name`, with an optional `@revision`.
fn parts_of_address<'a>(scheme: &str, rest: &'a str) -> Option<(&'a str, &'a str)> {
    let rest = rest.split(['?', '#']).next()?.trim_end_matches('/');
    let (path, separator) = match scheme {
        "hf" => (rest, "@"),
        "https" | "http" => {
            let (host, path) = rest.split_once('/')?;
            (PUBLIC_HUB_HOSTS.contains(&host).then_some(path)?, "/tree/")
        }
        _ => return None,
    };
    Some(path.split_once(separator).unwrap_or((path, DEFAULT_BRANCH)))
}

/// Returns what to add to a message about a text that names no model: the nearest name, or the
/// forms of an address.
pub fn hint_for_unknown(text: &str) -> String {
    if text.contains("://") {
        return "; an address of the Hub has the form `https://huggingface.co/owner/name`, with an \
                optional `/tree/revision`, or `hf://owner/name`"
            .to_owned();
    }
    nearest_name(text).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Returns true if a path has the extension of a weight file or of an index.
pub(crate) fn has_weights_extension(path: &Path) -> bool {
    let extensions = ["safetensors", "gguf", "pt", "pth", "bin", "json"];
    path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known))
}

impl fmt::Display for HubModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.repo)?;
        if self.revision == DEFAULT_BRANCH {
            Ok(())
        } else {
            write!(formatter, "@{}", self.revision)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_preset_a_repository_or_a_path() {
        let hub = |text| match ModelName::new(text) {
            ModelName::Hub(model) => Some((model.to_string(), model.preset.is_some())),
            ModelName::Path(_) => None,
        };
        let known = |repo: &str| Some((repo.to_owned(), true));
        let other = |repo: &str| Some((repo.to_owned(), false));
        assert_eq!(hub("sam2.1-large"), known("facebook/sam2.1-hiera-large"));
        assert_eq!(hub("mplug-owl3-1b"), known("mPLUG/mPLUG-Owl3-1B-241014"));
        assert_eq!(hub("sam2-tiny@v1"), known("facebook/sam2-hiera-tiny@v1"));
        assert_eq!(hub("someone/their-owl"), other("someone/their-owl"));
        assert_eq!(hub("someone/their-owl@refs/pr/3"), other("someone/their-owl@refs/pr/3"));
        for address in [
            "https://huggingface.co/someone/their-owl",
            "https://hf.co/someone/their-owl/?library=sam2#usage",
            "hf://someone/their-owl",
            "https://huggingface.co/someone/their-owl/tree/main/",
        ] {
            assert_eq!(hub(address), other("someone/their-owl"), "{address}");
        }
        let pull_request = other("someone/their-owl@refs/pr/3");
        assert_eq!(hub("https://huggingface.co/someone/their-owl/tree/refs/pr/3"), pull_request);
        assert_eq!(hub("hf://someone/their-owl@refs/pr/3"), pull_request);
        // A folder that exists, and texts that do not name a repository.
        for path in [
            "src/models",
            "/a/b",
            "./a/b",
            "../b",
            "a/b/c",
            "a/../b",
            "a",
            "",
            "a/b.safetensors",
            "models/owl.gguf",
            "a/",
            "/b",
            "a b/c",
            "a/b@",
            "a/b@../c",
            ".a/b",
            "https://huggingface.co/a/b/blob/main/model.pt",
            "https://huggingface.co/a",
            "https://example.com/a/b",
            "hf://datasets/a/b",
            "s3://a/b",
        ] {
            assert_eq!(hub(path), None, "{path}");
        }
    }
}
