//! An opened checkpoint: the names and shapes of its tensors, and their values on request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Shape, Tensor};

use crate::checkpoints::weights::checkpoint_files::{
    distinct_files, is_index, shards_of, weights_file_of,
};
use crate::checkpoints::weights::error::{WeightsError, damaged};
use crate::checkpoints::weights::gguf_file::{self, GgufFile};
use crate::checkpoints::weights::safetensors_file::SafetensorsFile;
use crate::checkpoints::weights::stand_in::refuse_stand_in;

/// Keys under which PyTorch checkpoints hold the tensors of a network.
const STATE_DICT_KEYS: [&str; 14] = [
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    "net",
    "network",
    "params",
    "weights",
    "ema",
    "ema_model",
    "ema_state_dict",
    "model_ema",
    "params_ema",
    "state_dict_ema",
];

/// Start of a file that PyTorch wrote before version 1.6: the pickle of its magic number.
const OLD_PYTORCH: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// The tensors of an opened checkpoint; their values are read on request.
pub struct Weights {
    path: PathBuf,
    /// Begins the name of every tensor in the file; it is not part of the names in `shapes`.
    prefix: String,
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
        refuse_stand_in(&path)?;
        if is_index(&path) {
            return Self::open_shards(path);
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => {
                let file = SafetensorsFile::open(&path)?;
                Ok(Self::new(path, file.shapes().collect(), OpenFiles::Safetensors(file)))
            }
            Some("gguf") => {
                let file = GgufFile::open(&path)?;
                Ok(Self::new(path, file.shapes().collect(), OpenFiles::Gguf(file)))
            }
            Some("pt" | "pth" | "bin") => Self::open_pytorch(path),
            _ => Err(WeightsError::Unrecognised {
                path,
                message: "weights end in `.safetensors`, `.gguf` or `.pt`".to_owned(),
            }),
        }
    }

    fn new(path: PathBuf, shapes: BTreeMap<String, Shape>, files: OpenFiles) -> Self {
        Self { path, prefix: String::new(), shapes, files }
    }

    fn open_shards(path: PathBuf) -> Result<Self, WeightsError> {
        let shards = shards_of(&path)?;
        let names = distinct_files(&shards);
        let opened = names.iter().map(|file| {
            refuse_stand_in(file)?;
            SafetensorsFile::open(file)
        });
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
        Ok(Self::new(path, shapes, OpenFiles::Shards { files, shard_of }))
    }

    /// Opens the tensors at the top level of a file, or those under the only key of
    /// `STATE_DICT_KEYS` that holds any.
    fn open_pytorch(path: PathBuf) -> Result<Self, WeightsError> {
        let unrecognised =
            |message: String| WeightsError::Unrecognised { path: path.clone(), message };
        let read_error = |reason| WeightsError::Read { path: path.clone(), reason };
        let mut head = [0; OLD_PYTORCH.len()];
        let mut file = File::open(&path).map_err(read_error)?;
        if file.read_exact(&mut head).is_ok() && head == OLD_PYTORCH {
            let message = "this format is that of PyTorch before 1.6; load the file with a newer \
                           one, and save it again";
            return Err(unrecognised(message.to_owned()));
        }
        let bare = read_pytorch(&path, None)?;
        let mut wrapped = Vec::new();
        for key in STATE_DICT_KEYS {
            // A missing key is an error of the reader.
            if let Ok(file) = read_pytorch(&path, Some(key))
                && !file.tensor_infos().is_empty()
            {
                wrapped.push((key, file));
            }
        }
        if let [(first, _), _, ..] = &wrapped[..] {
            let keys: Vec<String> = wrapped.iter().map(|(key, _)| format!("`{key}`")).collect();
            return Err(unrecognised(format!(
                "it holds several networks, under the keys {}; save the one to use to a file of \
                 its own: `torch.save(torch.load(\"{}\")[\"{first}\"], \"{first}.pt\")`",
                keys.join(", "),
                path.file_name().unwrap_or_default().display(),
            )));
        }
        let file = wrapped.pop().map_or(bare, |(_, file)| file);
        let shapes: BTreeMap<String, Shape> = file
            .tensor_infos()
            .iter()
            .map(|(name, info)| (name.clone(), info.layout.shape().clone()))
            .collect();
        if shapes.is_empty() {
            return Err(unrecognised(format!(
                "no tensor at the top level, nor under one of the keys {}; save the network's \
                 `state_dict()`",
                STATE_DICT_KEYS.map(|key| format!("`{key}`")).join(", ")
            )));
        }
        Ok(Self::new(path, shapes, OpenFiles::PyTorch(file)))
    }

    /// Removes the prefix that wrappers such as `DistributedDataParallel`, `torch.compile` and
    /// Lightning put before every name. `anchors` are names of tensors that the network has.
    ///
    /// # Errors
    /// Fails if the file holds several networks, each with a prefix of its own, or tensors outside
    /// the prefix.
    pub(crate) fn without_prefix(mut self, anchors: &[&str]) -> Result<Self, WeightsError> {
        if anchors.iter().any(|anchor| self.shapes.contains_key(*anchor)) {
            return Ok(self);
        }
        let prefix_of = |name: &String| {
            let prefix = anchors.iter().find_map(|anchor| name.strip_suffix(anchor))?;
            prefix.ends_with('.').then(|| prefix.to_owned())
        };
        let prefixes: BTreeSet<String> = self.shapes.keys().filter_map(prefix_of).collect();
        if prefixes.len() > 1 {
            let prefixes: Vec<String> =
                prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
            let message = format!(
                "it holds several networks, whose tensors begin with {}; save one to a file of its \
                 own",
                prefixes.join(", ")
            );
            return Err(WeightsError::Unrecognised { path: self.path, message });
        }
        let Some(prefix) = prefixes.into_iter().next() else { return Ok(self) };
        let (mut inside, mut outside) = (BTreeMap::new(), Vec::new());
        for (name, shape) in self.shapes {
            match name.strip_prefix(&prefix) {
                Some(rest) => drop(inside.insert(rest.to_owned(), shape)),
                None => outside.push(name),
            }
        }
        if !outside.is_empty() {
            return Err(WeightsError::Extra { path: self.path, names: outside });
        }
        self.shapes = inside;
        self.prefix = prefix;
        Ok(self)
    }

    /// Returns true if a tensor has one of these names, with or without the prefix of a wrapper.
    pub(crate) fn has_any(&self, names: &[&str]) -> bool {
        let is_one = |stored: &String| {
            let prefix = names.iter().find_map(|name| stored.strip_suffix(name));
            prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        };
        self.shapes.keys().any(is_one)
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

    /// Names and shapes of all tensors, sorted by name, without the prefix of a wrapper.
    pub fn shapes(&self) -> &BTreeMap<String, Shape> {
        &self.shapes
    }

    /// Returns true if a tensor is stored in quantised blocks.
    pub fn is_quantised(&self, name: &str) -> bool {
        matches!(&self.files, OpenFiles::Gguf(file) if file.is_quantised(&self.stored_name(name)))
    }

    /// Returns the half format of a tensor of a GGUF, or `None` for any other tensor.
    pub(crate) fn half_format(&self, name: &str) -> Option<DType> {
        match &self.files {
            OpenFiles::Gguf(file) => file.half_format(&self.stored_name(name)),
            OpenFiles::Safetensors(_) | OpenFiles::Shards { .. } | OpenFiles::PyTorch(_) => None,
        }
    }

    /// Returns the name of a tensor in the file.
    pub(crate) fn stored_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Returns the memory of all tensors in this dtype, in bytes.
    pub fn bytes_in(&self, dtype: DType) -> u64 {
        self.bytes_of(dtype, |_| true)
    }

    /// Returns the memory of the tensors that `is_loaded` names in this dtype, in bytes. Those of a
    /// GGUF take about twice their size in the file (measured, `benches/README.md`): the blocks are
    /// also held rearranged for the CPU's vector instructions.
    pub(crate) fn bytes_of(&self, dtype: DType, is_loaded: impl Fn(&str) -> bool) -> u64 {
        let loaded = self.shapes.iter().filter(|(name, _)| is_loaded(name));
        let bytes_of = |(name, shape): (&String, &Shape)| match &self.files {
            OpenFiles::Gguf(file) => 2 * file.bytes_of(&self.stored_name(name)),
            OpenFiles::Safetensors(_) | OpenFiles::Shards { .. } | OpenFiles::PyTorch(_) => {
                shape.elem_count() as u64 * dtype.size_in_bytes() as u64
            }
        };
        loaded.map(bytes_of).sum()
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
            OpenFiles::Shards { files, shard_of } => {
                files[shard_of[&self.stored_name(name)]].path().to_owned()
            }
            OpenFiles::Safetensors(_) | OpenFiles::PyTorch(_) | OpenFiles::Gguf(_) => {
                self.path.clone()
            }
        };
        Err(WeightsError::Misshapen {
            path,
            name: self.stored_name(name),
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
        let stored = &self.stored_name(name);
        match &self.files {
            OpenFiles::Safetensors(file) => file.load(stored, device)?.ok_or_else(missing),
            OpenFiles::Shards { files, shard_of } => {
                let file = shard_of.get(stored).map(|&index| &files[index]).ok_or_else(missing)?;
                file.load(stored, device)?.ok_or_else(missing)
            }
            OpenFiles::Gguf(file) => {
                Ok(file.load(stored, device)?.ok_or_else(missing)?.dequantize(device)?)
            }
            OpenFiles::PyTorch(file) => {
                let tensor = catch_unwind(AssertUnwindSafe(|| file.get(stored)))
                    .map_err(|_| damaged(&self.path, "PyTorch", &"a tensor is malformed"))?
                    .map_err(|error| damaged(&self.path, "PyTorch", &error))?
                    .ok_or_else(missing)?;
                Ok(tensor.contiguous()?.to_device(device)?)
            }
        }
    }

    /// Reads some rows of a matrix to the CPU, in the dtype of the file; quantised ones in `f32`.
    /// Only a `.pt` is read for the whole matrix.
    ///
    /// # Errors
    /// Fails if the matrix is missing, has not that many rows, or cannot be read.
    pub(crate) fn load_rows(&self, name: &str, rows: &[u32]) -> Result<Tensor, WeightsError> {
        let missing = || self.missing(name);
        let stored = &self.stored_name(name);
        match &self.files {
            OpenFiles::Safetensors(file) => file.load_rows(stored, rows)?.ok_or_else(missing),
            OpenFiles::Shards { files, shard_of } => {
                let file = shard_of.get(stored).map(|&index| &files[index]).ok_or_else(missing)?;
                file.load_rows(stored, rows)?.ok_or_else(missing)
            }
            OpenFiles::Gguf(file) => file.load_rows(stored, rows)?.ok_or_else(missing),
            OpenFiles::PyTorch(_) => {
                let rows = Tensor::new(rows, &Device::Cpu)?;
                Ok(self.load_as_stored(name, &Device::Cpu)?.index_select(&rows, 0)?)
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
        let stored = &self.stored_name(name);
        match &self.files {
            OpenFiles::Gguf(file) if file.is_quantised(stored) => Ok(file.load(stored, device)?),
            _ => Ok(None),
        }
    }

    /// Returns the dimensions under which the file holds a tensor.
    pub(crate) fn stored_dims(&self, dims: &[usize]) -> Vec<usize> {
        match &self.files {
            OpenFiles::Gguf(_) => gguf_file::stored_dims(dims),
            OpenFiles::Safetensors(_) | OpenFiles::Shards { .. } | OpenFiles::PyTorch(_) => {
                dims.to_vec()
            }
        }
    }

    /// Returns true if any tensor is stored in quantised blocks.
    pub(crate) fn has_quantised(&self) -> bool {
        self.shapes.keys().any(|name| self.is_quantised(name))
    }

    /// Returns the source of a network's quantised matrices.
    pub(crate) fn quantised_source<'a>(
        &'a self,
        device: &'a Device,
    ) -> impl Fn(&str, [usize; 2]) -> candle_core::Result<Option<QTensor>> + 'a {
        // candle's errors cannot carry ours, so only the message is kept.
        let message = |error: WeightsError| candle_core::Error::Msg(error.to_string());
        move |name, shape| {
            if !self.is_quantised(name) {
                return Ok(None);
            }
            self.check_shape(name, &shape).map_err(message)?;
            self.load_quantised(name, device).map_err(message)
        }
    }

    fn missing(&self, name: &str) -> WeightsError {
        WeightsError::Missing { path: self.path.clone(), name: self.stored_name(name) }
    }
}

/// Reads the table of a `.pt`: the tensors under a key, or those at the top level.
fn read_pytorch(path: &Path, key: Option<&str>) -> Result<PthTensors, WeightsError> {
    // The reader panics if a tensor's description has fewer parts than it expects.
    catch_unwind(|| PthTensors::new(path, key))
        .map_err(|_| damaged(path, "PyTorch", &"a tensor's description is malformed"))?
        .map_err(|error| damaged(path, "PyTorch", &error))
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
