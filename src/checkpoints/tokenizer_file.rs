//! The `tokenizer.json` next to the weights of a checkpoint.

use std::path::{Path, PathBuf};

use crate::checkpoints::weights::{WeightsError, read_text};
use crate::models::mplug_owl3::TokenizerError;

/// Returns the text of the `tokenizer.json` in the folder of a weight file, and its path.
///
/// # Errors
/// Fails if the file cannot be read.
pub(crate) fn read_tokenizer_json(weights: &Path) -> Result<(PathBuf, String), TokenizerError> {
    let path = weights.with_file_name("tokenizer.json");
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
