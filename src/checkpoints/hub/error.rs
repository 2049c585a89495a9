//! Why a model of the Hub could not be fetched or used.

use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use thiserror::Error;

use super::name::HubModel;
use crate::checkpoints::weights::WeightsError;

/// Why a model could not be fetched, or is not there.
#[derive(Debug, Error)]
pub enum HubError {
    /// It was never fetched.
    #[error(
        "{model} is not on this machine ({cache}); fetch it with `dogiqa models pull {}`{}",
        .model.written, to_fetch(.model), cache = .cache.display()
    )]
    Absent {
        /// What was looked for.
        model: HubModel,
        /// The cache it would lie in.
        cache: PathBuf,
    },
    /// Not all of it was fetched.
    #[error(
        "{model} is only partly on this machine: {missing} is missing; go on with \
         `dogiqa models pull {}`", .model.written
    )]
    Partial {
        /// What was looked for.
        model: HubModel,
        /// What of it is not there.
        missing: String,
    },
    /// Fetching is forbidden.
    #[error("{model} is not complete on this machine, and HF_HUB_OFFLINE forbids fetching")]
    Offline {
        /// What was to be fetched.
        model: HubModel,
    },
    /// The Hub has no such repository or revision, or does not show it.
    #[error(
        "{model}: the Hub answers {status}; check the name and the revision, and for a private or gated \
         model accept its terms on its page and set HF_TOKEN"
    )]
    Refused {
        /// What was to be fetched.
        model: HubModel,
        /// Status of the answer.
        status: u16,
    },
    /// The network, or a Hub that does not answer as one.
    #[error("{model}: {message}; what was fetched so far is kept, so try again")]
    Request {
        /// What was to be fetched.
        model: HubModel,
        /// What went wrong.
        message: String,
    },
    /// A repository without weights that are known here.
    #[error("{model} has no weights that are known here: {message}")]
    NoWeights {
        /// What was to be fetched.
        model: HubModel,
        /// What was looked for.
        message: String,
    },
    /// A file that arrived as another than the Hub said; it is not kept.
    #[error(
        "{model}: {file} arrived with another digest than the Hub's and is not kept; try again, and if it happens \
         again, what lies between here and the Hub changes files"
    )]
    Damaged {
        /// What was to be fetched.
        model: HubModel,
        /// Its file.
        file: String,
    },
    /// A word that means nothing.
    #[error("`{text}` is no preset, no file and no folder; `dogiqa models list` shows the presets")]
    Unknown {
        /// The word.
        text: String,
    },
    /// The cache cannot be read or written.
    #[error("{}: {reason}", .path.display())]
    Cache {
        /// What was to be read or written.
        path: PathBuf,
        /// Why it could not.
        reason: io::Error,
    },
    /// A file of it.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What a user wants to know before fetching.
fn to_fetch(model: &HubModel) -> String {
    match model.preset {
        Some(preset) => {
            format!(
                " (about {}, licence {})",
                ByteSize(preset.bytes).display().si(),
                preset.licence
            )
        }
        None => {
            " (its page on the Hub tells its size and licence); nor is there such a file or folder"
                .to_owned()
        }
    }
}
