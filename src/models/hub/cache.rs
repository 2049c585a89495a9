//! Models on this machine: where the cache has them, and whether they are what they were.
//!
//! Files of a revision are links to blobs, and a blob is called by its digest: SHA-256 of a large file, git's
//! own of a small one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use sha1::{Digest, Sha1};

use super::environment::Environment;
use super::error::HubError;
use super::name::{HubModel, ModelName};
use crate::models::weights::{WeightsError, file_of, given_digest, sha256_anew, shards_of};

/// Hexadecimal digits of git's digests.
const GIT_DIGITS: usize = 40;

/// A revision of a repository on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder with its files.
    pub folder: PathBuf,
}

/// A file and what its digest says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
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
/// [`HubError::Absent`] and [`HubError::Partial`] for a model of the Hub that was not fetched; a path is taken
/// as it is.
pub fn locate(text: &str) -> Result<PathBuf, HubError> {
    match ModelName::new(text) {
        ModelName::Path(path) => Ok(path),
        ModelName::Hub(model) => Ok(Snapshot::of(&model)?.folder),
    }
}

impl Snapshot {
    /// Finds a model of the Hub in the cache, complete.
    ///
    /// # Errors
    /// That it is not there, or not all of it.
    pub fn of(model: &HubModel) -> Result<Self, HubError> {
        let cache = Environment::read().cache;
        let absent = || HubError::Absent { model: model.clone(), cache: cache.path().clone() };
        let folder = folder_of(&cache, model).ok_or_else(absent)?;
        let partial = |missing: String| HubError::Partial { model: model.clone(), missing };
        let weights = file_of(&folder).map_err(|_| partial("the weights".to_owned()))?;
        for file in parts_of(&weights)? {
            if !file.is_file() {
                return Err(partial(name_of(&file)));
            }
        }
        Ok(Self { folder })
    }
}

/// Compares the files of a model with the digests that the Hub gave; of files that came otherwise it tells
/// theirs.
///
/// # Errors
/// The first file that cannot be read or has another digest than it should.
pub fn verify(path: &Path) -> Result<Vec<Checked>, HubError> {
    let weights = file_of(path)?;
    let mut files = parts_of(&weights)?;
    let beside = ["config.json", "tokenizer.json"].map(|name| weights.with_file_name(name));
    files.extend(beside.into_iter().filter(|path| path.is_file()));
    files.into_iter().map(|path| check(path, sha256_anew)).collect()
}

/// The weights' files: the file itself, or an index and its shards.
fn parts_of(weights: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let mut files = vec![weights.to_owned()];
    if weights.extension().is_some_and(|extension| extension == "json") {
        let mut shards: Vec<PathBuf> = shards_of(weights)?.into_values().collect();
        shards.sort();
        shards.dedup();
        files.append(&mut shards);
    }
    Ok(files)
}

/// Compares a file with the digest that the Hub gave it, if it gave one.
pub(super) fn check(
    path: PathBuf,
    sha256: fn(&Path) -> Result<String, WeightsError>,
) -> Result<Checked, HubError> {
    let Some(expected) = given_digest(&path) else {
        return Ok(Checked { digest: sha256(&path)?, path, is_known: false });
    };
    if expected.len() == GIT_DIGITS {
        let found = git_digest(&path);
        let found = found.map_err(|source| HubError::Cache { path: path.clone(), source })?;
        if found != expected {
            return Err(WeightsError::Digest { path, found, expected }.into());
        }
    } else {
        sha256(&path)?;
    }
    Ok(Checked { path, digest: expected, is_known: true })
}

/// What git calls a file's contents by.
fn git_digest(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let digest = Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(&bytes);
    Ok(hex::encode(digest.finalize()))
}

/// The folder of a model's revision, if there is one.
pub(super) fn folder_of(cache: &Cache, model: &HubModel) -> Option<PathBuf> {
    let repo = repo(model);
    let of_repo = cache.path().join(repo.folder_name());
    // A branch or tag is noted with its commit; a commit is itself.
    let noted = std::fs::read_to_string(of_repo.join("refs").join(&model.revision));
    let commit = noted.as_deref().map_or(model.revision.as_str(), str::trim);
    let folder = cache.repo(repo).pointer_path(commit);
    folder.is_dir().then_some(folder)
}

pub(super) fn repo(model: &HubModel) -> Repo {
    Repo::with_revision(model.repo.clone(), RepoType::Model, model.revision.clone())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
