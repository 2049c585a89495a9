//! The cache on disk, in the layout of `huggingface_hub`:
//!
//! ```text
//!  models--owner--name/refs/main            the commit that a branch or tag points to
//!                     /blobs/<digest>       contents of a file
//!                     /snapshots/<commit>/  links into blobs, one for each file of the commit
//!  .locks/models--owner--name/<digest>.lock held while a blob is written
//! ```
//! A digest is SHA-256 for a large file and git's SHA-1 for a small one. Links and references are
//! replaced atomically, and only if they differ, because other processes read them meanwhile.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::Builder;

use crate::checkpoints::atomic_file::temporary_file_for;
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::name::HubModel;

/// Begins the name of a link before it is renamed.
const TEMPORARY_PREFIX: &str = ".dogiqa-";

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

    /// Returns a commit, which the caller has checked to be a digest. Creates nothing.
    pub(crate) fn commit(&self, commit: &str) -> CachedCommit<'_> {
        let snapshot = self.folder.join("snapshots").join(commit);
        CachedCommit { repository: self, commit: commit.to_owned(), snapshot }
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

    /// Returns the folder of its files, which may not exist.
    pub(crate) fn folder(&self) -> &Path {
        &self.snapshot
    }

    /// Returns the path of a file's contents, which may not exist.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.repository.folder.join("blobs").join(digest)
    }

    /// Returns the path of a blob's interrupted download, which may not exist.
    pub(crate) fn partial_blob(&self, digest: &str) -> PathBuf {
        partial(&self.blob(digest))
    }

    /// Returns the innermost folder on the way to the commit's files that exists.
    pub(crate) fn existing_folder(&self) -> &Path {
        let existing = self.snapshot.ancestors().find(|folder| folder.is_dir());
        existing.unwrap_or(Path::new("."))
    }

    /// Returns a file of the commit, or `None` if it has not been fetched.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.snapshot.join(name)).filter(|path| path.is_file())
    }

    /// Creates the folders of the commit.
    pub(crate) fn create_folders(&self) -> Result<(), HubError> {
        let blobs = self.repository.folder.join("blobs");
        for folder in [&blobs, &self.snapshot, &self.repository.locks] {
            std::fs::create_dir_all(folder).map_err(|reason| cache_error(folder, reason))?;
        }
        Ok(())
    }

    /// Waits until no other process, Python programs included, writes a blob, and locks it until
    /// the returned file is dropped. Calls `on_wait` if another process has the lock.
    pub(crate) fn lock(&self, digest: &str, on_wait: impl FnOnce()) -> Result<File, HubError> {
        lock_file(&self.repository.locks.join(format!("{digest}.lock")), on_wait)
    }

    /// As [`lock`](Self::lock), against processes that write a shared blob for other repositories.
    pub(crate) fn lock_shared(
        &self,
        digest: &str,
        on_wait: impl FnOnce(),
    ) -> Result<File, HubError> {
        lock_file(&self.repository.locks.with_file_name(format!("{digest}.lock")), on_wait)
    }

    /// Links a file of the commit to a blob.
    pub(crate) fn link(&self, name: &str, digest: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot.join(name);
        let target = Path::new("../../blobs").join(digest);
        if std::fs::read_link(&path).is_ok_and(|current| current == target) {
            return Ok(path);
        }
        Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .make_in(&self.snapshot, |temporary| std::os::unix::fs::symlink(&target, temporary))
            .and_then(|link| Ok(link.persist(&path)?))
            .map_err(|reason| cache_error(&path, reason))?;
        Ok(path)
    }

    /// Records that a branch or tag points to this commit.
    pub(crate) fn write_reference(&self, revision: &str) -> Result<(), HubError> {
        let path = self.repository.reference(revision);
        let current = std::fs::read_to_string(&path);
        if revision == self.commit || current.is_ok_and(|current| current == self.commit) {
            return Ok(());
        }
        // A revision such as `refs/pr/3` has folders.
        let folder = path.parent().expect("a reference is in a folder");
        let write = || {
            std::fs::create_dir_all(folder)?;
            let mut file = temporary_file_for(&path)?;
            file.write_all(self.commit.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|reason| cache_error(&path, reason))
    }
}

fn lock_file(path: &Path, on_wait: impl FnOnce()) -> Result<File, HubError> {
    let lock = || {
        let file = File::create(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                file.lock()?;
            }
            Err(TryLockError::Error(reason)) => return Err(reason),
        }
        Ok(file)
    };
    lock().map_err(|reason| cache_error(path, reason))
}

/// Returns the path of an interrupted download, next to the blob that it becomes.
pub(crate) fn partial(blob: &Path) -> PathBuf {
    let mut name = blob.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    blob.with_file_name(name)
}

pub(crate) fn cache_error(path: &Path, reason: io::Error) -> HubError {
    HubError::Cache { path: path.to_owned(), reason }
}
