//! Errors of fetching and finding models of the Hub.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use thiserror::Error;

use crate::checkpoints::hub::fault::{FaultKind, RequestFault};
use crate::checkpoints::hub::name::{HubModel, hint_for_unknown};
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
    /// The Hub denies the request, or has no such repository, revision or file.
    #[error("{model}: {message}")]
    Refused {
        /// The model.
        model: HubModel,
        /// The file, the host, the status and what to do.
        message: String,
    },
    /// There is no connection to the Hub, or it does not answer in time.
    #[error("{model}: {message}; the partial download is kept, so try again")]
    Unreachable {
        /// The model.
        model: HubModel,
        /// The file, the host and the reason.
        message: String,
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
    /// The disk of the cache is too small for the missing files.
    #[error(
        "{model}: its missing files have {}, and the disk of {} has {} free; free some space, or set \
         HF_HUB_CACHE to a folder on a larger disk",
        bytes(*.needed), .folder.display(), bytes(*.free)
    )]
    NoSpace {
        /// The model.
        model: HubModel,
        /// A folder on the disk.
        folder: PathBuf,
        /// Bytes to fetch.
        needed: u64,
        /// Free bytes.
        free: u64,
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
    /// The digest of a file differs from that of the published file of its name.
    #[error(
        "{} has the digest {found}, and the published file of this name {expected}: it is damaged, \
         or another network under this name", .path.display()
    )]
    NotPublished {
        /// The file.
        path: PathBuf,
        /// The digest of its contents.
        found: String,
        /// The digest of the published file.
        expected: &'static str,
    },
    /// A word that is neither a preset nor a path.
    #[error(
        "`{text}` is not a preset, a file or a folder; `dogiqa models list` shows the presets{}",
        hint_for_unknown(.text)
    )]
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
    /// Names the model and the file of a failed request.
    pub(crate) fn from_fault(model: &HubModel, file: &str, fault: RequestFault) -> Self {
        let RequestFault { host, reason, kind } = fault;
        let (model, message) = (model.clone(), format!("{file} from {host}: {reason}"));
        match kind {
            FaultKind::Refused => Self::Refused { model, message },
            FaultKind::Unreachable | FaultKind::Silent => Self::Unreachable { model, message },
            FaultKind::Transient { .. } | FaultKind::Permanent => Self::Request { model, message },
        }
    }

    /// Returns true if a model in the cache is usable in spite of this error: the Hub is not
    /// reached, or the cache cannot be written. A full disk is not one of these errors.
    pub(crate) fn allows_cached_model(&self) -> bool {
        let is_full =
            |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match self {
            Self::Unreachable { .. } => true,
            Self::Cache { reason, .. } => !is_full(reason.kind()),
            _ => false,
        }
    }

    pub(crate) fn request(model: &HubModel, message: &dyn Display) -> Self {
        Self::Request { model: model.clone(), message: message.to_string() }
    }
}

/// Size and licence, which a user needs before fetching.
fn hint_before_fetching(model: &HubModel) -> String {
    match model.preset {
        Some(preset) => {
            let about = preset.bytes.map(|count| format!("about {}, ", bytes(count)));
            format!(" ({}licence {})", about.unwrap_or_default(), preset.licence)
        }
        None => {
            " (its page on the Hub shows its size and licence); nor is there such a file or folder"
                .to_owned()
        }
    }
}

fn bytes(count: u64) -> String {
    ByteSize(count).display().si().to_string()
}
