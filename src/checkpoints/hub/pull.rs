//! Fetching a model from the Hub into the cache.

use std::path::PathBuf;

use hf_hub::Cache;
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{ApiBuilder, ApiError};

use super::cache::{BESIDE, CachedCommit, repo, snapshot};
use super::download::Downloader;
use super::environment::Environment;
use super::error::HubError;
use super::name::HubModel;
use crate::checkpoints::weights::{GIT_DIGITS, all_files_of, choose_weights_file, is_digest};

/// How far one file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes on this machine.
    pub done: u64,
    /// Bytes in all.
    pub of: u64,
}

/// Fetches what a network is loaded from, and gives its folder. Files that are there already are kept; one that
/// was cut off is continued; one whose digest is not the Hub's is not kept.
///
/// Follows `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` (or the token that `hf auth login` noted) and
/// `HF_HUB_OFFLINE`. Blocks.
///
/// # Errors
/// What the Hub or the network says, a repository without weights, a file of another digest.
pub fn pull(
    model: &HubModel,
    mut report: impl FnMut(DownloadProgress<'_>),
) -> Result<PathBuf, HubError> {
    let environment = Environment::read();
    if environment.is_offline {
        return snapshot(model).map_err(|error| match error {
            HubError::Absent { model, .. } | HubError::Partial { model, .. } => {
                HubError::Offline { model }
            }
            other => other,
        });
    }
    let RepoInfo { sha, siblings } = info(model, &environment)?;
    if sha.len() != GIT_DIGITS || !is_digest(&sha) {
        let message = "it names no commit; is it a Hub?".to_owned();
        return Err(HubError::Request { model: model.clone(), message });
    }
    // All files of one commit, even if another is made meanwhile.
    let layout = CachedCommit::new(environment.cache.clone(), model, &sha)?;
    let downloader = Downloader::new(model, &layout, &environment);
    let names: Vec<&str> = siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let no_weights = |message: String| HubError::NoWeights { model: model.clone(), message };
    let none = || no_weights("no `.safetensors`, `.gguf` or `.pt` in it".to_owned());
    let weights = choose_weights_file(&names).map_err(no_weights)?.ok_or_else(none)?;
    let mut fetch = |name: &str| match layout.file(name) {
        Some(path) => Ok(path),
        None => downloader.fetch(name, &mut report),
    };
    for name in BESIDE.iter().filter(|name| names.contains(*name)) {
        fetch(name)?;
    }
    let path = fetch(weights)?;
    for part in all_files_of(&path)?.into_iter().skip(1) {
        fetch(&part.file_name().unwrap_or_default().to_string_lossy())?;
    }
    layout.note(model)?;
    snapshot(model)
}

/// The commit that a revision is at, and its files.
fn info(model: &HubModel, environment: &Environment) -> Result<RepoInfo, HubError> {
    let api = ApiBuilder::from_cache(Cache::new(environment.cache.clone()))
        .with_endpoint(environment.endpoint.clone())
        .with_token(environment.token.clone())
        .with_user_agent("dogiqa", env!("CARGO_PKG_VERSION"));
    let told = |error: ApiError| {
        let model = model.clone();
        if let ApiError::RequestError(error) = &error
            && let ureq::Error::StatusCode(status @ (401 | 403 | 404)) = **error
        {
            return HubError::Refused { model, status };
        }
        HubError::Request { model, message: error.to_string() }
    };
    api.build().and_then(|api| api.repo(repo(model)).info()).map_err(told)
}
