//! Finds a model on this machine: a path, or a complete snapshot in the cache.

use std::path::{Path, PathBuf};

use crate::checkpoints::hub::cache::CachedRepository;
use crate::checkpoints::hub::environment::Environment;
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::name::{HubModel, ModelName, has_weights_extension};
use crate::checkpoints::weights::{WeightsError, all_files_of, weights_file_of};

/// Returns the file or folder of a model. A path is returned unchanged, even if it does not exist.
///
/// # Errors
/// [`HubError::Absent`] or [`HubError::Partial`] if a model of the Hub is missing from the cache or
/// incomplete. [`HubError::Unknown`] for a word or an address that is neither a preset nor a path.
pub fn locate(text: &str) -> Result<PathBuf, HubError> {
    match ModelName::new(text) {
        ModelName::Path(path)
            if (is_bare_word(&path) || text.contains("://")) && !path.exists() =>
        {
            Err(HubError::Unknown { text: text.to_owned() })
        }
        ModelName::Path(path) => Ok(path),
        ModelName::Hub(model) => snapshot(&model),
    }
}

/// Returns true for a path without a folder and without an extension of weights: probably a
/// misspelt preset.
fn is_bare_word(path: &Path) -> bool {
    path.components().count() == 1 && !has_weights_extension(path)
}

/// Returns the folder of a model in the cache.
///
/// # Errors
/// Fails if the model is not in the cache, or not completely.
pub fn snapshot(model: &HubModel) -> Result<PathBuf, HubError> {
    let cache = Environment::read().cache;
    let folder = CachedRepository::new(&cache, model).snapshot(&model.revision);
    if !folder.is_dir() {
        return Err(HubError::Absent { model: model.clone(), cache });
    }
    check_complete(model, &folder)?;
    Ok(folder)
}

/// Fails if the folder of a model lacks a file.
pub(crate) fn check_complete(model: &HubModel, folder: &Path) -> Result<(), HubError> {
    let partial = |missing: String| HubError::Partial { model: model.clone(), missing };
    let weights = match weights_file_of(folder) {
        Ok(weights) => weights,
        Err(WeightsError::NoWeights { .. }) => {
            return Err(partial("the file of weights".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    for file in all_files_of(&weights)? {
        if !file.is_file() {
            let name = file.file_name().unwrap_or_default();
            return Err(partial(name.to_string_lossy().into_owned()));
        }
    }
    Ok(())
}
