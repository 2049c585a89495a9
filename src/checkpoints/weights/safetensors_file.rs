//! One safetensors file. Its table is read once. A tensor's bytes are mapped only while they are
//! copied, so that a process holds the tensors it requested and not the file as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use candle_core::safetensors::Load;
use candle_core::{Device, Shape, Tensor};
use memmap2::{Mmap, MmapOptions};
use safetensors::tensor::{TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensors};

use crate::checkpoints::weights::error::{WeightsError, damaged};

/// Bytes of the table's length, which is the start of the file.
const LENGTH_PREFIX_BYTES: usize = 8;

/// An open file and its table.
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, TensorInfo>,
    /// Offset of the first tensor in bytes.
    data_offset: usize,
}

impl SafetensorsFile {
    /// Reads the table, which must account for every byte of the file.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let read_error = |reason| WeightsError::Read { path: path.to_owned(), reason };
        let file = File::open(path).map_err(read_error)?;
        let length = usize::try_from(file.metadata().map_err(read_error)?.len()).map_err(|_| {
            damaged(path, "safetensors", &"the file is larger than this machine can map")
        })?;
        let whole = map(&file, 0, length).map_err(read_error)?;
        let (table_bytes, metadata) = SafeTensors::read_metadata(&whole)
            .map_err(|error| damaged(path, "safetensors", &error))?;
        let entries = metadata.tensors().into_iter();
        let tensors = entries.map(|(name, info)| (name, info.clone())).collect();
        let data_offset = LENGTH_PREFIX_BYTES + table_bytes;
        Ok(Self { path: path.to_owned(), file, tensors, data_offset })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn shapes(&self) -> impl Iterator<Item = (String, Shape)> {
        self.tensors.iter().map(|(name, info)| (name.clone(), Shape::from(info.shape.clone())))
    }

    /// Reads a tensor in the file's dtype. Returns `None` if the file does not have it.
    pub(crate) fn load(&self, name: &str, device: &Device) -> Result<Option<Tensor>, WeightsError> {
        let Some(info) = self.tensors.get(name) else {
            return Ok(None);
        };
        let bytes = self.bytes_of(name, info)?;
        self.tensor(info.dtype, info.shape.clone(), &bytes, device).map(Some)
    }

    /// Reads some rows of a matrix, in the file's dtype, to the CPU. Only the pages that hold them
    /// are read. Returns `None` if the file does not have the matrix.
    pub(crate) fn load_rows(
        &self,
        name: &str,
        rows: &[u32],
    ) -> Result<Option<Tensor>, WeightsError> {
        let Some(info) = self.tensors.get(name) else {
            return Ok(None);
        };
        let &[count, width] = &info.shape[..] else {
            let shape = Shape::from(info.shape.clone());
            return Err(self.unrecognised(format!("`{name}` is no matrix but {shape:?}")));
        };
        let bytes = self.bytes_of(name, info)?;
        let row_len = bytes.len() / count.max(1);
        let mut selected = Vec::with_capacity(rows.len() * row_len);
        for &row in rows {
            let start = row as usize * row_len;
            let Some(row_bytes) = bytes.get(start..start + row_len) else {
                return Err(self.unrecognised(format!("`{name}` has {count} rows, none for {row}")));
            };
            selected.extend_from_slice(row_bytes);
        }
        self.tensor(info.dtype, vec![rows.len(), width], &selected, &Device::Cpu).map(Some)
    }

    /// Maps the bytes of a tensor of numbers.
    fn bytes_of(&self, name: &str, info: &TensorInfo) -> Result<Mmap, WeightsError> {
        if !matches!(info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64) {
            return Err(self.unrecognised(format!(
                "the tensor `{name}` is stored as {:?}; weights are F16, BF16, F32 or F64",
                info.dtype
            )));
        }
        let (start, end) = info.data_offsets;
        map(&self.file, self.data_offset + start, end - start)
            .map_err(|reason| WeightsError::Read { path: self.path.clone(), reason })
    }

    fn tensor(
        &self,
        dtype: Dtype,
        shape: Vec<usize>,
        bytes: &[u8],
        device: &Device,
    ) -> Result<Tensor, WeightsError> {
        let view = TensorView::new(dtype, shape, bytes)
            .map_err(|error| damaged(&self.path, "safetensors", &error))?;
        Ok(view.load(device)?)
    }

    fn unrecognised(&self, message: String) -> WeightsError {
        WeightsError::Unrecognised { path: self.path.clone(), message }
    }
}

#[expect(unsafe_code, reason = "mapping is the only way to copy a tensor out of a file only once")]
fn map(file: &File, start: usize, length: usize) -> io::Result<Mmap> {
    // SAFETY: the map is sound as long as no process changes the file meanwhile. Weights are
    // written once, when they are installed; truncating one while it is read ends this process.
    unsafe { MmapOptions::new().offset(start as u64).len(length).map(file) }
}
