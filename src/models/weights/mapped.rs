//! One safetensors file. Its table is read once; a tensor's bytes are mapped while it is copied out
//! and given back at once, so that a process holds the tensors that it asked for and not their file too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use candle_core::safetensors::Load;
use candle_core::{Device, Shape, Tensor};
use memmap2::{Mmap, MmapOptions};
use safetensors::tensor::{TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensors};

use super::error::{WeightsError, damaged};

/// Bytes before the table: its length.
const PREFIX: usize = 8;

/// An open file and its table.
pub(super) struct MappedFile {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, TensorInfo>,
    /// Where the first tensor begins.
    data: usize,
}

impl MappedFile {
    /// Reads the table, which must account for every byte of the file.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let read = |reason| WeightsError::Read { path: path.to_owned(), reason };
        let file = File::open(path).map_err(read)?;
        let length = usize::try_from(file.metadata().map_err(read)?.len()).map_err(|_| {
            damaged(path, "safetensors", &"the file is larger than this machine can map")
        })?;
        let whole = map(&file, 0, length).map_err(read)?;
        let (table, metadata) = SafeTensors::read_metadata(&whole)
            .map_err(|error| damaged(path, "safetensors", &error))?;
        let tensors = metadata.tensors().into_iter();
        let tensors = tensors.map(|(name, info)| (name, info.clone())).collect();
        Ok(Self { path: path.to_owned(), file, tensors, data: PREFIX + table })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn shapes(&self) -> impl Iterator<Item = (String, Shape)> {
        self.tensors.iter().map(|(name, info)| (name.clone(), Shape::from(info.shape.clone())))
    }

    /// The tensor in the file's dtype; none when it is not there.
    pub(super) fn load(&self, name: &str, device: &Device) -> Result<Option<Tensor>, WeightsError> {
        let Some(info) = self.tensors.get(name) else {
            return Ok(None);
        };
        if !matches!(info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64) {
            return Err(WeightsError::Unrecognised {
                path: self.path.clone(),
                message: format!(
                    "the tensor `{name}` is stored as {:?}; weights are F16, BF16, F32 or F64",
                    info.dtype
                ),
            });
        }
        let read = |reason| WeightsError::Read { path: self.path.clone(), reason };
        let (start, end) = info.data_offsets;
        let bytes = map(&self.file, self.data + start, end - start).map_err(read)?;
        let view = TensorView::new(info.dtype, info.shape.clone(), &bytes)
            .map_err(|error| damaged(&self.path, "safetensors", &error))?;
        Ok(Some(view.load(device)?))
    }
}

#[expect(unsafe_code, reason = "mapping is the one way to copy tensors out of a file only once")]
fn map(file: &File, start: usize, length: usize) -> io::Result<Mmap> {
    // SAFETY: the map is sound as long as nobody changes the file under it. Weights are written once
    // by whoever installs them; a file cut short while it is read ends the process.
    unsafe { MmapOptions::new().offset(start as u64).len(length).map(file) }
}
