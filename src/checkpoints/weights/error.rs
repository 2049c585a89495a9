//! Errors of weight files: the file, the fact, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Number of names that a message lists.
const NAMES_SHOWN_MAX: usize = 5;

/// Weights cannot be used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file is missing or cannot be read.
    #[error("{path}: {reason}", path = .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        reason: io::Error,
    },
    /// The file cannot be written.
    #[error("{path} was not written: {reason}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system or of the encoder.
        reason: io::Error,
    },
    /// The file is not a checkpoint, or only a part of one.
    #[error(
        "{path} is not a readable {kind} file: {message}; was the download complete?",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format that its extension claims.
        kind: &'static str,
        /// The error of the reader.
        message: String,
    },
    /// The file's digest differs from the Hub's.
    #[error(
        "{path} ({blob}) has the digest {found} instead of {expected}: it was damaged during or \
         after its download; `dogiqa models pull` fetches it again",
        path = .path.display(), blob = .blob.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The file behind the link.
        blob: PathBuf,
        /// The digest of its contents.
        found: String,
        /// The Hub's digest.
        expected: String,
    },
    /// The folder has no weight file.
    #[error("{path}: no `.safetensors`, `.gguf` or `.pt` in this folder", path = .path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// The file or folder holds no weights of a known kind.
    #[error("{path}: {message}", path = .path.display())]
    Unrecognised {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// The file lacks a tensor that the model needs.
    #[error(
        "{path}: the tensor `{name}` is missing; the file is of another model, or incomplete",
        path = .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// Name of the tensor in this file's naming.
        name: String,
    },
    /// The shape of a tensor differs from the model's.
    #[error(
        "{path}: the tensor `{name}` has the shape {found:?}, the model needs {expected:?}",
        path = .path.display()
    )]
    Misshapen {
        /// The file.
        path: PathBuf,
        /// Name of the tensor in this file.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration requires.
        expected: Vec<usize>,
    },
    /// The file has tensors that the model does not use.
    #[error(
        "{path}: unknown tensors, the file is of another model: {}", shown(.names),
        path = .path.display()
    )]
    Extra {
        /// The file.
        path: PathBuf,
        /// Their names in this file.
        names: Vec<String>,
    },
    /// The configuration is of another model, or of a network that cannot be built.
    #[error("{path}: {message}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl WeightsError {
    /// Names a damaged file and its blob.
    pub(crate) fn digest(path: &Path, found: String, expected: String) -> Self {
        let blob = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self::Digest { path: path.to_owned(), blob, found, expected }
    }
}

fn shown(names: &[String]) -> String {
    let mut text =
        names.iter().take(NAMES_SHOWN_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    if names.len() > NAMES_SHOWN_MAX {
        text.push(format!("and {} more", names.len() - NAMES_SHOWN_MAX));
    }
    text.join(", ")
}

pub(crate) fn damaged(path: &Path, kind: &'static str, error: &dyn fmt::Display) -> WeightsError {
    WeightsError::Damaged { path: path.to_owned(), kind, message: error.to_string() }
}
