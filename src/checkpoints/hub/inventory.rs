//! Lists the repositories in the cache, whichever program has fetched them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::checkpoints::hub::environment::Environment;

/// A commit of a repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// `owner/name`.
    pub repo: String,
    /// The branches and tags that point to the commit.
    pub revisions: Vec<String>,
    /// The commit's digest.
    pub commit: String,
    /// Size of its files in bytes, including those that other commits share.
    pub bytes: u64,
    /// The folder of its files.
    pub folder: PathBuf,
}

/// Returns every commit of every model in the cache, sorted by repository. A cache that cannot be
/// read is empty.
pub fn cached_models() -> Vec<CachedModel> {
    let mut models = Vec::new();
    for folder in folders_in(&Environment::read().cache) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(repo) = name.strip_prefix("models--") else { continue };
        let mut revisions = revisions_in(&folder.join("refs"));
        for snapshot in folders_in(&folder.join("snapshots")) {
            let name = snapshot.file_name().unwrap_or_default();
            let commit = name.to_string_lossy().into_owned();
            models.push(CachedModel {
                repo: repo.replacen("--", "/", 1),
                revisions: revisions.remove(&commit).unwrap_or_default(),
                commit,
                bytes: size_of(&snapshot),
                folder: snapshot,
            });
        }
    }
    models
}

/// Returns the folders in a folder, sorted by name.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Returns the branches and tags of each commit. A name such as `refs/pr/3` is in nested folders.
fn revisions_in(refs: &Path) -> BTreeMap<String, Vec<String>> {
    let mut revisions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in WalkDir::new(refs).sort_by_file_name().into_iter().flatten() {
        if let Ok(name) = entry.path().strip_prefix(refs)
            && let Ok(commit) = std::fs::read_to_string(entry.path())
        {
            let name = name.to_string_lossy().into_owned();
            revisions.entry(commit.trim().to_owned()).or_default().push(name);
        }
    }
    revisions
}

/// Returns the size of all files in a folder, following links to blobs.
fn size_of(folder: &Path) -> u64 {
    let entries = WalkDir::new(folder).follow_links(true).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok().filter(Metadata::is_file));
    files.map(|metadata| metadata.len()).sum()
}
