//! Errors of fetching and finding models of the Hub.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use thiserror::Error;

use crate::checkpoints::hub::name::HubModel;
use crate::checkpoints::weights::WeightsError;

/// A model cannot be fetched or is not on this machine.
#[derive(Debug, Error)]
pub enum HubError {
    /// The model was never fetched.
    #[error(
        "{model} is not on this machine ({cache}); fetch it with `dogiqa models pull {}`{}",
        .model.written, hint_before_fetching(.model), cache = .cache.display()
    )]
    Absent {
        /// The model.
        model: HubModel,
        /// The cache that was searched.
        cache: PathBuf,
    },
    /// The model was only partly fetched.
    #[error(
        "{model} is only partly on this machine: {missing} is missing; continue with \
         `dogiqa models pull {}`", .model.written
    )]
    Partial {
        /// The model.
        model: HubModel,
        /// The first missing file.
        missing: String,
    },
    /// The model is incomplete, and downloads are forbidden.
    #[error("{model} is not complete on this machine, and HF_HUB_OFFLINE forbids fetching")]
    Offline {
        /// The model.
        model: HubModel,
    },
    /// The Hub has no such repository or revision, or does not show it to this user.
    #[error(
        "{model}: the Hub answers {status}; check the name and the revision, and for a private or \
         gated model accept its terms on its page and set HF_TOKEN"
    )]
    Refused {
        /// The model.
        model: HubModel,
        /// HTTP status of the response.
        status: u16,
    },
    /// The request failed, or the server's response is not that of a Hub.
    #[error("{model}: {message}; the partial download is kept, so try again")]
    Request {
        /// The model.
        model: HubModel,
        /// The reason.
        message: String,
    },
    /// The repository has no weights of a known format.
    #[error("{model} has no weights in a supported format: {message}")]
    NoWeights {
        /// The model.
        model: HubModel,
        /// The reason.
        message: String,
    },
    /// The digest of a downloaded file differs from the Hub's; the file was deleted.
    #[error(
        "{model}: {file} arrived with another digest than the Hub's and is not kept; try again, and \
         if it happens again, something between here and the Hub changes files"
    )]
    Damaged {
        /// The model.
        model: HubModel,
        /// Name of the file.
        file: String,
    },
    /// A word that is neither a preset nor a path.
    #[error("`{text}` is not a preset, a file or a folder; `dogiqa models list` shows the presets")]
    Unknown {
        /// The word.
        text: String,
    },
    /// The cache cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        reason: io::Error,
    },
    /// The files of the model cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl HubError {
    pub(crate) fn request(model: &HubModel, message: &dyn Display) -> Self {
        Self::Request { model: model.clone(), message: message.to_string() }
    }
}

/// Size and licence, which a user needs before fetching.
fn hint_before_fetching(model: &HubModel) -> String {
    match model.preset {
        Some(preset) => {
            format!(
                " (about {}, licence {})",
                ByteSize(preset.bytes).display().si(),
                preset.licence
            )
        }
        None => {
            " (its page on the Hub shows its size and licence); nor is there such a file or folder"
                .to_owned()
        }
    }
}
