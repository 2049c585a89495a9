//! Files of weights: safetensors and PyTorch checkpoints, read as named tensors.
//!
//! A `.safetensors` file is mapped into memory. A `.pt` is a zip around a pickle: only tensors are
//! read from it, by a reader that knows no other objects; nothing in it is executed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Shape, Tensor};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Key under which PyTorch checkpoints of the models here hold their tensors.
const STATE_DICT: &str = "model";
/// How many names a message lists.
const NAMES_SHOWN: usize = 5;

/// Why weights could not be used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file is not there or may not be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it could not.
        source: io::Error,
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

/// An opened file of weights; tensors are read when they are asked for.
pub struct Weights {
    path: PathBuf,
    shapes: BTreeMap<String, Shape>,
    file: File,
}

enum File {
    Mapped(MmapedSafetensors),
    Pickle(PthTensors),
}

impl fmt::Debug for Weights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Weights").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Weights {
    /// Opens a `.safetensors`, or a `.pt`, `.pth` or `.bin` of PyTorch, and reads its table of tensors.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or has another extension.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let read = |source| WeightsError::Read { path: path.to_owned(), source };
        std::fs::metadata(path).map_err(read)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Self::mapped(path),
            Some("pt" | "pth" | "bin") => Self::pickled(path),
            _ => Err(WeightsError::Unrecognised {
                path: path.to_owned(),
                message: "weights end in `.safetensors` or `.pt`".to_owned(),
            }),
        }
    }

    #[expect(unsafe_code, reason = "mapping a file is the one way to open weights without a copy")]
    fn mapped(path: &Path) -> Result<Self, WeightsError> {
        // SAFETY: the map is sound as long as nobody changes the file under it. Weights are written
        // once by whoever installs them; a file cut short while it is in use ends the process.
        let file = unsafe { MmapedSafetensors::new(path) }
            .map_err(|error| damaged(path, "safetensors", &error))?;
        let tensors = file.tensors().into_iter();
        let shapes = tensors.map(|(name, view)| (name, Shape::from(view.shape()))).collect();
        Ok(Self { path: path.to_owned(), shapes, file: File::Mapped(file) })
    }

    fn pickled(path: &Path) -> Result<Self, WeightsError> {
        // Some checkpoints hold their tensors under a key, others at the top.
        let open =
            || PthTensors::new(path, Some(STATE_DICT)).or_else(|_| PthTensors::new(path, None));
        // The reader takes a pickle's word for how many parts a tensor's description has.
        let file = catch_unwind(open)
            .map_err(|_| damaged(path, "PyTorch", &"a tensor's description is malformed"))?
            .map_err(|error| damaged(path, "PyTorch", &error))?;
        let shapes: BTreeMap<String, Shape> = file
            .tensor_infos()
            .iter()
            .map(|(name, info)| (name.clone(), info.layout.shape().clone()))
            .collect();
        if shapes.is_empty() {
            return Err(damaged(path, "PyTorch", &"there is no tensor in it"));
        }
        Ok(Self { path: path.to_owned(), shapes, file: File::Pickle(file) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes of all tensors, sorted by name.
    pub fn shapes(&self) -> &BTreeMap<String, Shape> {
        &self.shapes
    }

    /// Reads one tensor in the given dtype.
    ///
    /// # Errors
    /// A tensor that is not there, or data that cannot be read.
    pub fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, WeightsError> {
        let missing = || WeightsError::Missing { path: self.path.clone(), name: name.to_owned() };
        let tensor = match &self.file {
            _ if !self.shapes.contains_key(name) => return Err(missing()),
            File::Mapped(file) => file.load(name, device)?,
            File::Pickle(file) => {
                let tensor = catch_unwind(AssertUnwindSafe(|| file.get(name)))
                    .map_err(|_| damaged(&self.path, "PyTorch", &"a tensor is malformed"))?
                    .map_err(|error| damaged(&self.path, "PyTorch", &error))?
                    .ok_or_else(missing)?;
                tensor.contiguous()?.to_device(device)?
            }
        };
        Ok(tensor.to_dtype(dtype)?)
    }
}

/// SHA-256 of a file in lower-case hexadecimal: the weights' name in events.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_of(path: &Path) -> Result<String, WeightsError> {
    let read = |source| WeightsError::Read { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(read)?;
    Ok(hex::encode(hasher.finalize()))
}

fn damaged(path: &Path, kind: &'static str, error: &dyn fmt::Display) -> WeightsError {
    WeightsError::Damaged { path: path.to_owned(), kind, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_checkpoint_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        for (name, part) in [
            ("absent.pt", "No such file"),
            ("half.safetensors", "was the download complete?"),
            ("half.pt", "was the download complete?"),
            ("notes.txt", "end in `.safetensors` or `.pt`"),
        ] {
            let path = folder.path().join(name);
            if !name.starts_with("absent") {
                std::fs::write(&path, b"PK\x03\x04 and no more").unwrap();
            }
            let message = Weights::open(&path).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(part), "{message}");
        }
    }
}
