//! The cache on disk, in the layout of `huggingface_hub`:
//!
//! ```text
//!  models--owner--name/refs/main            the commit that a branch or tag points to
//!                     /blobs/<digest>       contents of a file
//!                     /snapshots/<commit>/  links into blobs, one for each file of the commit
//!  .locks/models--owner--name/<digest>.lock held while a blob is written
//! ```
//! A digest is SHA-256 for a large file and git's SHA-1 for a small one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::name::HubModel;

/// The folders of one repository.
pub(crate) struct CachedRepository {
    folder: PathBuf,
    locks: PathBuf,
}

impl CachedRepository {
    pub(crate) fn new(cache: &Path, model: &HubModel) -> Self {
        let name = format!("models--{}", model.repo.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// Returns the folder of a branch, tag or commit, which may not exist.
    pub(crate) fn snapshot(&self, revision: &str) -> PathBuf {
        // A branch or tag has a file with its commit; a commit has none.
        let commit = std::fs::read_to_string(self.reference(revision));
        self.folder.join("snapshots").join(commit.as_deref().map_or(revision, str::trim))
    }

    /// Creates the folders of a commit, which the caller has checked to be a digest.
    pub(crate) fn create_commit(&self, commit: &str) -> Result<CachedCommit<'_>, HubError> {
        let snapshot = self.folder.join("snapshots").join(commit);
        for folder in [&self.folder.join("blobs"), &snapshot, &self.locks] {
            std::fs::create_dir_all(folder).map_err(|reason| cache_error(folder, reason))?;
        }
        Ok(CachedCommit { repository: self, commit: commit.to_owned(), snapshot })
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }
}

/// The files of one commit of a repository.
pub(crate) struct CachedCommit<'a> {
    repository: &'a CachedRepository,
    commit: String,
    snapshot: PathBuf,
}

impl CachedCommit<'_> {
    /// The commit's digest.
    pub(crate) fn id(&self) -> &str {
        &self.commit
    }

    /// Returns the path of a file's contents, which may not exist.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.repository.folder.join("blobs").join(digest)
    }

    /// Returns a file of the commit, or `None` if it has not been fetched.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.snapshot.join(name)).filter(|path| path.is_file())
    }

    /// Waits until no other process, Python programs included, writes a blob, and locks it until
    /// the returned file is dropped.
    pub(crate) fn lock(&self, digest: &str) -> Result<File, HubError> {
        let path = self.repository.locks.join(format!("{digest}.lock"));
        let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|reason| cache_error(&path, reason))
    }

    /// Links a file of the commit to a blob.
    pub(crate) fn link(&self, name: &str, digest: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot.join(name);
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).map_err(|reason| cache_error(&path, reason))?;
        }
        let target = Path::new("../../blobs").join(digest);
        std::os::unix::fs::symlink(target, &path).map_err(|reason| cache_error(&path, reason))?;
        Ok(path)
    }

    /// Records that a branch or tag points to this commit.
    pub(crate) fn write_reference(&self, revision: &str) -> Result<(), HubError> {
        if revision == self.commit {
            return Ok(());
        }
        let path = self.repository.reference(revision);
        // A revision such as `refs/pr/3` has folders.
        let folder = path.parent().expect("a reference is in a folder");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, &self.commit))
            .map_err(|reason| cache_error(&path, reason))
    }
}

pub(crate) fn cache_error(path: &Path, reason: io::Error) -> HubError {
    HubError::Cache { path: path.to_owned(), reason }
}
