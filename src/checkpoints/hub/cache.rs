//! Models on this machine: where the cache has them, and whether they are what they were.
//!
//! Files of a commit are links to blobs, and a blob is called by its digest: SHA-256 of a large file, git's
//! own of a small one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::HubError;
use super::name::{HubModel, ModelName, is_called_like_a_file};
use crate::checkpoints::weights::{
    WeightsError, all_files_of, compute_digest, compute_sha256, hub_digest_of, weights_file_of,
};
use hf_hub::{Cache, Repo, RepoType};

/// What a network needs beside its weights, where there is such a file.
pub(super) const BESIDE: [&str; 2] = ["config.json", "tokenizer.json"];

/// A file and what its digest says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, or git's digest of it where the cache knows that one.
    pub digest: String,
    /// Whether it is the digest that the Hub gave; a file that came otherwise has none to compare with.
    pub is_known: bool,
}

/// The file or folder that a name means.
///
/// # Errors
/// [`HubError::Absent`] and [`HubError::Partial`] for a model of the Hub that was not fetched,
/// [`HubError::Unknown`] for a word that means nothing; a path is taken as it is.
pub fn locate(text: &str) -> Result<PathBuf, HubError> {
    match ModelName::new(text) {
        ModelName::Path(path) if is_bare_word(&path) && !path.exists() => {
            Err(HubError::Unknown { text: text.to_owned() })
        }
        ModelName::Path(path) => Ok(path),
        ModelName::Hub(model) => snapshot(&model),
    }
}

/// Whether a path is neither in a folder nor called like a file of weights: somebody meant a preset.
fn is_bare_word(path: &Path) -> bool {
    path.components().count() == 1 && !is_called_like_a_file(path)
}

/// The folder of a model of the Hub in the cache, complete.
///
/// # Errors
/// That it is not there, or not all of it.
pub fn snapshot(model: &HubModel) -> Result<PathBuf, HubError> {
    let cache = Environment::read().cache;
    let absent = || HubError::Absent { model: model.clone(), cache: cache.clone() };
    let of_repo = cache.join(repo(model).folder_name());
    // A branch or tag is noted with its commit; a commit is itself.
    let noted = std::fs::read_to_string(of_repo.join("refs").join(&model.revision));
    let commit = noted.as_deref().map_or(model.revision.as_str(), str::trim);
    let folder = of_repo.join("snapshots").join(commit);
    if !folder.is_dir() {
        return Err(absent());
    }
    let partial = |missing: String| HubError::Partial { model: model.clone(), missing };
    let weights = match weights_file_of(&folder) {
        Ok(weights) => weights,
        Err(WeightsError::NoWeights { .. }) => {
            return Err(partial("the file of weights".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    for file in all_files_of(&weights)? {
        if !file.is_file() {
            return Err(partial(name_of(&file)));
        }
    }
    Ok(folder)
}

/// Compares the files of a model with the digests that the Hub gave; of files that came otherwise it tells
/// theirs. Reads every byte.
///
/// # Errors
/// The first file that cannot be read or has another digest than it should.
pub fn verify(path: &Path) -> Result<Vec<CheckedFile>, HubError> {
    let weights = weights_file_of(path)?;
    let mut files = all_files_of(&weights)?;
    let beside = BESIDE.map(|name| weights.with_file_name(name));
    files.extend(beside.into_iter().filter(|path| path.is_file()));
    files.into_iter().map(check).collect()
}

fn check(path: PathBuf) -> Result<CheckedFile, HubError> {
    let Some(expected) = hub_digest_of(&path) else {
        return Ok(CheckedFile { digest: compute_sha256(&path)?, path, is_known: false });
    };
    let found = compute_digest(&expected, &path)?;
    if found == expected {
        return Ok(CheckedFile { path, digest: found, is_known: true });
    }
    Err(WeightsError::Digest { path, found, expected }.into())
}

/// Where the cache keeps one commit of a repository, as `huggingface_hub` lays it out.
pub(super) struct CachedCommit {
    cache: PathBuf,
    folder_name: String,
    commit: String,
}

impl CachedCommit {
    /// Makes the folders of a commit, which is forty hexadecimal digits.
    pub(super) fn new(cache: PathBuf, model: &HubModel, commit: &str) -> Result<Self, HubError> {
        let folder_name = repo(model).folder_name();
        let layout = Self { cache, folder_name, commit: commit.to_owned() };
        let blobs = layout.cache.join(&layout.folder_name).join("blobs");
        for folder in [blobs, layout.snapshot(), layout.locks()] {
            std::fs::create_dir_all(&folder).map_err(|source| Self::failed(&folder, source))?;
        }
        Ok(layout)
    }

    pub(super) fn commit(&self) -> &str {
        &self.commit
    }

    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.cache.join(&self.folder_name).join("blobs").join(digest)
    }

    /// A file of the commit, if it is there.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.snapshot().join(name)).filter(|path| path.is_file())
    }

    /// Holds off whoever fetches the same file, Python programs included, until it is dropped.
    pub(super) fn lock(&self, digest: &str) -> Result<File, HubError> {
        let path = self.locks().join(format!("{digest}.lock"));
        let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| Self::failed(&path, source))
    }

    /// Makes a file of the commit of a blob.
    pub(super) fn link(&self, name: &str, digest: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot().join(name);
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).map_err(|source| Self::failed(&path, source))?;
        }
        let target = Path::new("../../blobs").join(digest);
        std::os::unix::fs::symlink(target, &path).map_err(|source| Self::failed(&path, source))?;
        Ok(path)
    }

    /// Notes that a branch or tag is at this commit.
    pub(super) fn note(&self, model: &HubModel) -> Result<(), HubError> {
        if model.revision == self.commit {
            return Ok(());
        }
        let noted = Cache::new(self.cache.clone()).repo(repo(model)).create_ref(&self.commit);
        noted.map_err(|source| Self::failed(&self.cache, source))
    }

    pub(super) fn failed(path: &Path, source: io::Error) -> HubError {
        HubError::Cache { path: path.to_owned(), reason: source }
    }

    fn snapshot(&self) -> PathBuf {
        self.cache.join(&self.folder_name).join("snapshots").join(&self.commit)
    }

    fn locks(&self) -> PathBuf {
        self.cache.join(".locks").join(&self.folder_name)
    }
}

pub(super) fn repo(model: &HubModel) -> Repo {
    Repo::with_revision(model.repo.clone(), RepoType::Model, model.revision.clone())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
