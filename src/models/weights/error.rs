//! Why weights cannot be used: what, in which file, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// How many names a message lists.
const NAMES_SHOWN: usize = 5;

/// Why weights could not be used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file is not there or may not be read.
    #[error("{path}: {reason}", path = .path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it could not.
        reason: io::Error,
    },
    /// The file cannot be written.
    #[error("{path} was not written: {reason}", path = .path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it could not.
        reason: io::Error,
    },
    /// The file is no checkpoint, or only a part of one.
    #[error(
        "{path} is no readable {kind} file: {message}; was the download complete?",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its name says it is.
        kind: &'static str,
        /// What the reader says.
        message: String,
    },
    /// A file that is not what it should be.
    #[error(
        "{path} has the digest {found} instead of {expected}: it was damaged on its way or since; delete it \
         and fetch it again", path = .path.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A folder without weights.
    #[error("{path}: no `.safetensors`, `.gguf` or `.pt` in this folder", path = .path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A folder or file in which there are no weights of a known kind.
    #[error("{path}: {message}", path = .path.display())]
    Unrecognised {
        /// What was given.
        path: PathBuf,
        /// What was looked for.
        message: String,
    },
    /// A tensor that the model needs is not in the file.
    #[error(
        "{path}: the tensor `{name}` is missing; the file is of another model, or incomplete",
        path = .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor, as it would be called in this file.
        name: String,
    },
    /// A tensor of another shape than the model's.
    #[error(
        "{path}: the tensor `{name}` has the shape {found:?}, the model needs {expected:?}",
        path = .path.display()
    )]
    Misshapen {
        /// The file.
        path: PathBuf,
        /// The tensor, as it is called in this file.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// Tensors that no part of the model asks for.
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
    /// A configuration that the model cannot have.
    #[error("{path}: {message}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// What the tensor library says.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

fn shown(names: &[String]) -> String {
    let mut text =
        names.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    if names.len() > NAMES_SHOWN {
        text.push(format!("and {} more", names.len() - NAMES_SHOWN));
    }
    text.join(", ")
}

pub(super) fn damaged(path: &Path, kind: &'static str, error: &dyn fmt::Display) -> WeightsError {
    WeightsError::Damaged { path: path.to_owned(), kind, message: error.to_string() }
}
