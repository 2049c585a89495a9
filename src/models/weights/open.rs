//! Opening files of weights, whatever their format.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Shape, Tensor};

use super::error::{WeightsError, damaged};
use super::gguf::GgufFile;
use super::locate::{distinct, file_of, is_index, shards_of};
use super::mapped::MappedFile;

/// Key under which PyTorch checkpoints of the models here hold their tensors.
const STATE_DICT: &str = "model";

/// An opened checkpoint; tensors are read when they are asked for.
pub struct Weights {
    path: PathBuf,
    shapes: BTreeMap<String, Shape>,
    source: Source,
}

enum Source {
    /// One file.
    Mapped(MappedFile),
    /// The files of an index, and for each tensor which of them it is in.
    Sharded(Vec<MappedFile>, BTreeMap<String, usize>),
    Pickle(PthTensors),
    Gguf(GgufFile),
}

impl fmt::Debug for Weights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Weights").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Weights {
    /// Opens a `.safetensors`, the `.safetensors.index.json` of a sharded one, a `.gguf`, or a `.pt`,
    /// `.pth` or `.bin` of PyTorch, and reads the table of its tensors. In a folder that is
    /// `model.safetensors`, its index, or the only such file.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or has another extension.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let path = file_of(path)?;
        let read = |reason| WeightsError::Read { path: path.clone(), reason };
        std::fs::metadata(&path).map_err(read)?;
        if is_index(&path) {
            return Self::sharded(path);
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => {
                let file = MappedFile::open(&path)?;
                let shapes = file.shapes().collect();
                Ok(Self { shapes, source: Source::Mapped(file), path })
            }
            Some("gguf") => {
                let file = GgufFile::open(&path)?;
                Ok(Self { shapes: file.shapes().collect(), source: Source::Gguf(file), path })
            }
            Some("pt" | "pth" | "bin") => Self::pickled(path),
            _ => Err(WeightsError::Unrecognised {
                path,
                message: "weights end in `.safetensors`, `.gguf` or `.pt`".to_owned(),
            }),
        }
    }

    fn sharded(path: PathBuf) -> Result<Self, WeightsError> {
        let shards = shards_of(&path)?;
        let names = distinct(&shards);
        let files = names.iter().map(|file| MappedFile::open(file));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let (mut shapes, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (index, file) in files.iter().enumerate() {
            // A shard may hold what the index has elsewhere; the index is right.
            let listed = file.shapes().filter(|(name, _)| shards.get(name) == Some(names[index]));
            for (name, shape) in listed {
                places.insert(name.clone(), index);
                shapes.insert(name, shape);
            }
        }
        if let Some((name, file)) = shards.iter().find(|(name, _)| !shapes.contains_key(*name)) {
            return Err(WeightsError::Missing { path: file.clone(), name: name.clone() });
        }
        Ok(Self { path, shapes, source: Source::Sharded(files, places) })
    }

    fn pickled(path: PathBuf) -> Result<Self, WeightsError> {
        // Some checkpoints hold their tensors under a key, others at the top.
        let open =
            || PthTensors::new(&path, Some(STATE_DICT)).or_else(|_| PthTensors::new(&path, None));
        // The reader takes a pickle's word for how many parts a tensor's description has.
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
        Ok(Self { path, shapes, source: Source::Pickle(file) })
    }

    /// The file, or the index of its shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files that tensors are read from.
    pub fn files(&self) -> Vec<&Path> {
        match &self.source {
            Source::Sharded(files, _) => files.iter().map(MappedFile::path).collect(),
            Source::Mapped(_) | Source::Pickle(_) | Source::Gguf(_) => vec![&self.path],
        }
    }

    /// Names and shapes of all tensors, sorted by name.
    pub fn shapes(&self) -> &BTreeMap<String, Shape> {
        &self.shapes
    }

    /// Whether a tensor is stored in quantised blocks.
    pub fn is_quantised(&self, name: &str) -> bool {
        matches!(&self.source, Source::Gguf(file) if file.is_quantised(name))
    }

    /// What its tensors take in memory in this dtype. Quantised blocks are held more than once, arranged for
    /// the processor's instructions: they take about twice their file (measured, `benches/README.md`).
    pub fn bytes_in(&self, dtype: DType) -> u64 {
        if let Source::Gguf(_) = &self.source {
            return 2 * std::fs::metadata(&self.path).map_or(0, |data| data.len());
        }
        let count: usize = self.shapes.values().map(Shape::elem_count).sum();
        count as u64 * dtype.size_in_bytes() as u64
    }

    /// A text that a GGUF has beside its tensors.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.source {
            Source::Gguf(file) => file.text(key),
            Source::Mapped(_) | Source::Sharded(..) | Source::Pickle(_) => None,
        }
    }

    /// Checks the shape of a tensor before any memory is taken on the file's word.
    ///
    /// # Errors
    /// A tensor that is not there, or has another shape.
    pub fn check(&self, name: &str, expected: &[usize]) -> Result<(), WeightsError> {
        let found = self.shapes.get(name).ok_or_else(|| self.missing(name))?.dims();
        if found == expected {
            return Ok(());
        }
        let path = match &self.source {
            Source::Sharded(files, places) => files[places[name]].path().to_owned(),
            Source::Mapped(_) | Source::Pickle(_) | Source::Gguf(_) => self.path.clone(),
        };
        Err(WeightsError::Misshapen {
            path,
            name: name.to_owned(),
            found: found.to_vec(),
            expected: expected.to_vec(),
        })
    }

    /// Reads one tensor in the given dtype.
    ///
    /// # Errors
    /// A tensor that is not there, or data that cannot be read.
    pub fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, WeightsError> {
        Ok(self.load_as_stored(name, device)?.to_dtype(dtype)?)
    }

    /// Reads one tensor in the dtype that it is stored in; one of a GGUF in `f32`.
    ///
    /// # Errors
    /// A tensor that is not there, or data that cannot be read.
    pub fn load_as_stored(&self, name: &str, device: &Device) -> Result<Tensor, WeightsError> {
        let missing = || self.missing(name);
        match &self.source {
            Source::Mapped(file) => file.load(name, device)?.ok_or_else(missing),
            Source::Sharded(files, places) => {
                let file = places.get(name).map(|&index| &files[index]).ok_or_else(missing)?;
                file.load(name, device)?.ok_or_else(missing)
            }
            Source::Gguf(file) => {
                Ok(file.load(name, device)?.ok_or_else(missing)?.dequantize(device)?)
            }
            Source::Pickle(file) => {
                let tensor = catch_unwind(AssertUnwindSafe(|| file.get(name)))
                    .map_err(|_| damaged(&self.path, "PyTorch", &"a tensor is malformed"))?
                    .map_err(|error| damaged(&self.path, "PyTorch", &error))?
                    .ok_or_else(missing)?;
                Ok(tensor.contiguous()?.to_device(device)?)
            }
        }
    }

    /// Reads a tensor that is stored in quantised blocks; none when it is stored otherwise.
    ///
    /// # Errors
    /// Data that cannot be read.
    pub fn quantised(&self, name: &str, device: &Device) -> Result<Option<QTensor>, WeightsError> {
        match &self.source {
            Source::Gguf(file) if file.is_quantised(name) => Ok(file.load(name, device)?),
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
