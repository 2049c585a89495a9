//! The `config.json` and the `tokenizer.json` of a checkpoint: inside a GGUF of ours, otherwise
//! next to the weights.

use std::path::PathBuf;

use crate::checkpoints::weights::{Weights, WeightsError, read_text};
use crate::models::mplug_owl3::TokenizerError;

/// Metadata key of the `config.json` in a GGUF of ours.
pub(crate) const CONFIG_KEY: &str = "dogiqa.config.json";
/// Metadata key of the `tokenizer.json` in a GGUF, as the format's specification names it.
pub(crate) const TOKENIZER_KEY: &str = "tokenizer.huggingface.json";

/// Returns the text of the `config.json`, and the file that contains it.
///
/// # Errors
/// Fails if the file cannot be read.
pub(crate) fn read_config_json(weights: &Weights) -> Result<(PathBuf, String), WeightsError> {
    if let Some(json) = weights.text(CONFIG_KEY) {
        return Ok((weights.path().to_owned(), json.to_owned()));
    }
    let path = weights.path().with_file_name("config.json");
    let json = read_text(&path)?;
    Ok((path, json))
}

/// Returns the text of the `tokenizer.json`, and the file that contains it.
///
/// # Errors
/// Fails if the file cannot be read.
pub(crate) fn read_tokenizer_json(weights: &Weights) -> Result<(PathBuf, String), TokenizerError> {
    if let Some(json) = weights.text(TOKENIZER_KEY) {
        return Ok((weights.path().to_owned(), json.to_owned()));
    }
    let path = weights.path().with_file_name("tokenizer.json");
    let message = match read_text(&path) {
        Ok(json) => return Ok((path, json)),
        Err(WeightsError::Read { reason, .. }) => {
            format!("{reason}; it is one of the files that a checkpoint comes with")
        }
        Err(WeightsError::Unrecognised { message, .. }) => message,
        Err(error) => error.to_string(),
    };
    Err(TokenizerError::Open { path, message })
}
