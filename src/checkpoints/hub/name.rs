//! The ways to name a model: a preset, a repository of the Hub, or a path.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoints::hub::preset::ModelPreset;

/// The branch that is used if no revision is given.
const DEFAULT_BRANCH: &str = "main";

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
    /// Parses a preset or an `owner/name`, with an optional `@revision`. Returns `None` if the text
    /// is neither.
    pub fn new(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, DEFAULT_BRANCH));
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
        ] {
            assert_eq!(hub(path), None, "{path}");
        }
    }
}
