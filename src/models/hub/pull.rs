//! Fetching a model from the Hub into the cache.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Repo, RepoType};

use super::cache::{Snapshot, check, repo};
use super::environment::Environment;
use super::error::HubError;
use super::name::HubModel;
use crate::models::weights::{WeightsError, choose, is_index, sha256_of, shards_of};

/// Times that a file is asked for again after the connection broke, each from where it stopped.
const RETRIES: usize = 5;
/// What a network needs beside its weights, where the repository has it.
const BESIDE: [&str; 2] = ["config.json", "tokenizer.json"];

/// How far one file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes on this machine.
    pub done: u64,
    /// Bytes in all.
    pub of: u64,
}

/// Fetches what a network is loaded from, and checks it against the digests that the Hub gives. Files that
/// are there already are kept; one that was cut off is continued.
///
/// Follows `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` (or the token that `hf auth login` noted) and
/// `HF_HUB_OFFLINE`. Blocks.
///
/// # Errors
/// What the Hub or the network says, a repository without weights, a file of another digest.
pub fn pull(model: &HubModel, mut report: impl FnMut(Progress<'_>)) -> Result<Snapshot, HubError> {
    let Environment { cache, endpoint, token, is_offline } = Environment::read();
    if is_offline {
        return Snapshot::of(model).map_err(|_| HubError::Offline { model: model.clone() });
    }
    let asked = |error: ApiError| told(model, &error);
    let mut builder = ApiBuilder::from_cache(cache.clone())
        .with_progress(false)
        .with_retries(RETRIES)
        .with_user_agent("dogiqa", env!("CARGO_PKG_VERSION"));
    if token.is_some() {
        builder = builder.with_token(token);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let api = builder.build().map_err(asked)?;
    let info = api.repo(repo(model)).info().map_err(asked)?;
    // All files of one commit, even if another is made meanwhile.
    let commit = Repo::with_revision(model.repo.clone(), RepoType::Model, info.sha.clone());
    let here = cache.repo(commit.clone());
    let there = api.repo(commit);
    let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let no_weights = |message: String| HubError::NoWeights { model: model.clone(), message };
    let weights = choose(&names).map_err(no_weights)?;
    let mut fetch = |name: &str| -> Result<PathBuf, HubError> {
        let path = match here.get(name) {
            Some(path) => path,
            None => fetch(&there, name, &mut report).map_err(asked)?,
        };
        match check(path, sha256_of) {
            Ok(checked) => Ok(checked.path),
            Err(HubError::Weights(WeightsError::Digest { path, found, expected })) => {
                remove(&path)?;
                Err(HubError::Damaged {
                    model: model.to_string(),
                    file: name.to_owned(),
                    found,
                    expected,
                })
            }
            Err(error) => Err(error),
        }
    };
    for name in BESIDE.iter().filter(|name| names.contains(*name)) {
        fetch(name)?;
    }
    let path = fetch(weights)?;
    if is_index(&path) {
        let mut shards: Vec<PathBuf> = shards_of(&path)?.into_values().collect();
        shards.sort();
        shards.dedup();
        for shard in shards {
            fetch(&shard.file_name().unwrap_or_default().to_string_lossy())?;
        }
    }
    let noted = cache.repo(repo(model)).create_ref(&info.sha);
    noted.map_err(|source| HubError::Cache { path: cache.path().clone(), source })?;
    Snapshot::of(model)
}

/// A file of a snapshot: the link, and the blob that it leads to.
fn remove(link: &Path) -> Result<(), HubError> {
    let failed = |source| HubError::Cache { path: link.to_owned(), source };
    let blob = std::fs::canonicalize(link).map_err(failed)?;
    std::fs::remove_file(link).map_err(failed)?;
    if blob == link { Ok(()) } else { std::fs::remove_file(&blob).map_err(failed) }
}

fn fetch(
    repo: &ApiRepo,
    name: &str,
    report: &mut impl FnMut(Progress<'_>),
) -> Result<PathBuf, ApiError> {
    let counter = Counter { file: name.to_owned(), done: 0, of: 0, report };
    repo.download_with_progress(name, counter)
}

/// Counts what a download tells.
struct Counter<'a, F> {
    file: String,
    done: u64,
    of: u64,
    report: &'a mut F,
}

impl<F: FnMut(Progress<'_>)> Counter<'_, F> {
    fn tell(&mut self) {
        (self.report)(Progress { file: &self.file, done: self.done, of: self.of });
    }
}

impl<F: FnMut(Progress<'_>)> hf_hub::api::Progress for Counter<'_, F> {
    fn init(&mut self, size: usize, _filename: &str) {
        (self.done, self.of) = (0, size as u64);
        self.tell();
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.tell();
    }

    fn finish(&mut self) {
        self.tell();
    }
}

fn told(model: &HubModel, error: &ApiError) -> HubError {
    let model = model.clone();
    if let ApiError::RequestError(error) = error
        && let ureq::Error::StatusCode(status @ (401 | 403 | 404)) = **error
    {
        return HubError::Refused { model, status };
    }
    HubError::Request { model, message: error.to_string() }
}
