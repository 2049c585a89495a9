//! An opened checkpoint: the names and shapes of its tensors, and their values on request.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Shape, Tensor};

use crate::checkpoints::weights::checkpoint_files::{
    distinct_files, is_index, shards_of, weights_file_of,
};
use crate::checkpoints::weights::error::{WeightsError, damaged};
use crate::checkpoints::weights::gguf_file::GgufFile;
use crate::checkpoints::weights::safetensors_file::SafetensorsFile;

/// Key under which the PyTorch checkpoints of our models hold their tensors.
const STATE_DICT: &str = "model";

/// The tensors of an opened checkpoint; their values are read on request.
pub struct Weights {
    path: PathBuf,
    shapes: BTreeMap<String, Shape>,
    files: OpenFiles,
}

/// The opened files, by format.
enum OpenFiles {
    Safetensors(SafetensorsFile),
    Shards {
        files: Vec<SafetensorsFile>,
        /// Index into `files` of each tensor.
        shard_of: BTreeMap<String, usize>,
    },
    PyTorch(PthTensors),
    Gguf(GgufFile),
}

impl fmt::Debug for Weights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Weights").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Weights {
    /// Opens a `.safetensors`, the `.safetensors.index.json` of a sharded one, a `.gguf`, or a
    /// PyTorch `.pt`, `.pth` or `.bin`, and reads its table of tensors. In a folder, opens
    /// `model.safetensors`, its index, or the only weight file.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is damaged or has another extension.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let path = weights_file_of(path)?;
        let read_error = |reason| WeightsError::Read { path: path.clone(), reason };
        std::fs::metadata(&path).map_err(read_error)?;
        if is_index(&path) {
            return Self::open_shards(path);
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => {
                let file = SafetensorsFile::open(&path)?;
                let shapes = file.shapes().collect();
                Ok(Self { shapes, files: OpenFiles::Safetensors(file), path })
            }
            Some("gguf") => {
                let file = GgufFile::open(&path)?;
                Ok(Self { shapes: file.shapes().collect(), files: OpenFiles::Gguf(file), path })
            }
            Some("pt" | "pth" | "bin") => Self::open_pytorch(path),
            _ => Err(WeightsError::Unrecognised {
                path,
                message: "weights end in `.safetensors`, `.gguf` or `.pt`".to_owned(),
            }),
        }
    }

    fn open_shards(path: PathBuf) -> Result<Self, WeightsError> {
        let shards = shards_of(&path)?;
        let names = distinct_files(&shards);
        let opened = names.iter().map(|file| SafetensorsFile::open(file));
        let files = opened.collect::<Result<Vec<_>, _>>()?;
        let (mut shapes, mut shard_of) = (BTreeMap::new(), BTreeMap::new());
        for (index, file) in files.iter().enumerate() {
            // A shard may also hold a tensor that the index assigns to another one; the index wins.
            let listed = file.shapes().filter(|(name, _)| shards.get(name) == Some(names[index]));
            for (name, shape) in listed {
                shard_of.insert(name.clone(), index);
                shapes.insert(name, shape);
            }
        }
        if let Some((name, file)) = shards.iter().find(|(name, _)| !shapes.contains_key(*name)) {
            return Err(WeightsError::Missing { path: file.clone(), name: name.clone() });
        }
        Ok(Self { path, shapes, files: OpenFiles::Shards { files, shard_of } })
    }

    fn open_pytorch(path: PathBuf) -> Result<Self, WeightsError> {
        // Some checkpoints hold their tensors under a key, others at the top level.
        let open =
            || PthTensors::new(&path, Some(STATE_DICT)).or_else(|_| PthTensors::new(&path, None));
        // The reader panics if a tensor's description has fewer parts than it expects.
        let file = catch_unwind(open)
            .map_err(|_| damaged(&path, "PyTorch", &"a tensor's description is malformed"))?
            .map_err(|error| damaged(&path, "PyTorch", &error))?;
        let shapes: BTreeMap<String, Shape> = file
            .tensor_infos()
            .iter()
            .map(|(name, info)| (name.clone(), info.layout.shape().clone()))
            .collect();
        if shapes.is_empty() {
            return Err(damaged(&path, "PyTorch", &"there is no tensor in it"));
        }
        Ok(Self { path, shapes, files: OpenFiles::PyTorch(file) })
    }

    /// The file, or the index of its shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files that tensors are read from.
    pub fn files(&self) -> Vec<&Path> {
        match &self.files {
            OpenFiles::Shards { files, .. } => files.iter().map(SafetensorsFile::path).collect(),
            OpenFiles::Safetensors(_) | OpenFiles::PyTorch(_) | OpenFiles::Gguf(_) => {
                vec![&self.path]
            }
        }
    }

    /// Names and shapes of all tensors, sorted by name.
    pub fn shapes(&self) -> &BTreeMap<String, Shape> {
        &self.shapes
    }

    /// Returns true if a tensor is stored in quantised blocks.
    pub fn is_quantised(&self, name: &str) -> bool {
        matches!(&self.files, OpenFiles::Gguf(file) if file.is_quantised(name))
    }

    /// Returns the memory of all tensors in this dtype, in bytes. A GGUF takes about twice
    /// its file (measured, `benches/README.md`): its blocks are also held rearranged for the CPU's
    /// vector instructions.
    pub fn bytes_in(&self, dtype: DType) -> u64 {
        if let OpenFiles::Gguf(_) = &self.files {
            return 2 * std::fs::metadata(&self.path).map_or(0, |data| data.len());
        }
        let count: usize = self.shapes.values().map(Shape::elem_count).sum();
        count as u64 * dtype.size_in_bytes() as u64
    }

    /// Returns a text from the metadata of a GGUF.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.files {
            OpenFiles::Gguf(file) => file.text(key),
            OpenFiles::Safetensors(_) | OpenFiles::Shards { .. } | OpenFiles::PyTorch(_) => None,
        }
    }

    /// Checks the shape of a tensor. Called before memory is allocated for a shape that a file
    /// claims.
    ///
    /// # Errors
    /// Fails if the tensor is missing or has another shape.
    pub(crate) fn check_shape(&self, name: &str, expected: &[usize]) -> Result<(), WeightsError> {
        let found = self.shapes.get(name).ok_or_else(|| self.missing(name))?.dims();
        if found == expected {
            return Ok(());
        }
        let path = match &self.files {
            OpenFiles::Shards { files, shard_of } => files[shard_of[name]].path().to_owned(),
            OpenFiles::Safetensors(_) | OpenFiles::PyTorch(_) | OpenFiles::Gguf(_) => {
                self.path.clone()
            }
        };
        Err(WeightsError::Misshapen {
            path,
            name: name.to_owned(),
            found: found.to_vec(),
            expected: expected.to_vec(),
        })
    }

    /// Reads one tensor and converts it to `dtype`.
    ///
    /// # Errors
    /// Fails if the tensor is missing or cannot be read.
    pub fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, WeightsError> {
        Ok(self.load_as_stored(name, device)?.to_dtype(dtype)?)
    }

    /// Reads one tensor in the dtype of the file; one of a GGUF in `f32`.
    ///
    /// # Errors
    /// Fails if the tensor is missing or cannot be read.
    pub(crate) fn load_as_stored(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<Tensor, WeightsError> {
        let missing = || self.missing(name);
        match &self.files {
            OpenFiles::Safetensors(file) => file.load(name, device)?.ok_or_else(missing),
            OpenFiles::Shards { files, shard_of } => {
                let file = shard_of.get(name).map(|&index| &files[index]).ok_or_else(missing)?;
                file.load(name, device)?.ok_or_else(missing)
            }
            OpenFiles::Gguf(file) => {
                Ok(file.load(name, device)?.ok_or_else(missing)?.dequantize(device)?)
            }
            OpenFiles::PyTorch(file) => {
                let tensor = catch_unwind(AssertUnwindSafe(|| file.get(name)))
                    .map_err(|_| damaged(&self.path, "PyTorch", &"a tensor is malformed"))?
                    .map_err(|error| damaged(&self.path, "PyTorch", &error))?
                    .ok_or_else(missing)?;
                Ok(tensor.contiguous()?.to_device(device)?)
            }
        }
    }

    /// Reads a tensor in its quantised blocks. Returns `None` if it is not stored in such blocks.
    ///
    /// # Errors
    /// Fails if the data cannot be read.
    pub(crate) fn load_quantised(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<Option<QTensor>, WeightsError> {
        match &self.files {
            OpenFiles::Gguf(file) if file.is_quantised(name) => Ok(file.load(name, device)?),
            _ => Ok(None),
        }
    }

    fn missing(&self, name: &str) -> WeightsError {
        WeightsError::Missing { path: self.path.clone(), name: name.to_owned() }
    }
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
            ("half.gguf", "was the download complete?"),
            ("half.safetensors.index.json", "was the download complete?"),
            ("notes.txt", "end in `.safetensors`, `.gguf` or `.pt`"),
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
