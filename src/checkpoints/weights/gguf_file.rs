//! GGUF: quantised matrices and everything else that a network needs, in one file.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Shape, Tensor};

use crate::checkpoints::atomic_file::temporary_file_for;
use crate::checkpoints::weights::error::{WeightsError, damaged};

/// Largest number of dimensions of a tensor, by the format's specification.
const DIMS_MAX: usize = 4;

/// An open file and its table.
pub(crate) struct GgufFile {
    content: Content,
    reader: Mutex<BufReader<File>>,
}

impl GgufFile {
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let read_error = |reason| WeightsError::Read { path: path.to_owned(), reason };
        let mut reader = BufReader::new(File::open(path).map_err(read_error)?);
        // candle divides by the alignment of the file unchecked, and panics if it is zero.
        let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut reader)))
            .map_err(|_| damaged(path, "GGUF", &"its table is malformed"))?
            .map_err(|error| damaged(path, "GGUF", &error))?;
        let length = reader.get_ref().metadata().map_err(read_error)?.len();
        for (name, info) in &content.tensor_infos {
            let end = end_of(info).and_then(|end| end.checked_add(content.tensor_data_offset));
            if end.is_none_or(|end| end > length) {
                return Err(damaged(path, "GGUF", &format!("`{name}` ends after the file")));
            }
        }
        Ok(Self { content, reader: Mutex::new(reader) })
    }

    pub(crate) fn shapes(&self) -> impl Iterator<Item = (String, Shape)> {
        let infos = self.content.tensor_infos.iter();
        infos.map(|(name, info)| (name.clone(), info.shape.clone()))
    }

    /// Returns true if the tensor is stored in blocks of values that share a scale.
    pub(crate) fn is_quantised(&self, name: &str) -> bool {
        self.content.tensor_infos.get(name).is_some_and(|info| is_quantised(info.ggml_dtype))
    }

    /// Returns the format of a tensor that is stored in a half format.
    pub(crate) fn half_format(&self, name: &str) -> Option<DType> {
        match self.content.tensor_infos.get(name)?.ggml_dtype {
            GgmlDType::F16 => Some(DType::F16),
            GgmlDType::BF16 => Some(DType::BF16),
            _ => None,
        }
    }

    /// Returns a text from the file's metadata.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let value = self.content.metadata.get(key)?;
        value.to_string().ok().map(String::as_str)
    }

    /// Reads a tensor as it is stored. Returns `None` if the file does not have it.
    pub(crate) fn load(&self, name: &str, device: &Device) -> candle_core::Result<Option<QTensor>> {
        if !self.content.tensor_infos.contains_key(name) {
            return Ok(None);
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        self.content.tensor(&mut *reader, name, device).map(Some)
    }

    /// Reads some rows of a matrix as `f32`, `(rows, width)`, on the CPU, and nothing else of it.
    /// Returns `None` if the file does not have it.
    pub(crate) fn load_rows(
        &self,
        name: &str,
        rows: &[u32],
    ) -> candle_core::Result<Option<Tensor>> {
        let Some(info) = self.content.tensor_infos.get(name) else { return Ok(None) };
        let (count, width) = info.shape.dims2()?;
        let row_len = bytes_of(info.ggml_dtype, width as u64);
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read_row = |&row: &u32| {
            if row as usize >= count {
                candle_core::bail!("`{name}` has {count} rows, none for {row}");
            }
            let offset = info.offset + u64::from(row) * row_len;
            let row = TensorInfo { ggml_dtype: info.ggml_dtype, shape: (1, width).into(), offset };
            row.read(&mut *reader, self.content.tensor_data_offset, &Device::Cpu)?
                .dequantize(&Device::Cpu)
        };
        let rows = rows.iter().map(&mut read_row).collect::<candle_core::Result<Vec<_>>>()?;
        if rows.is_empty() {
            return Tensor::zeros((0, width), DType::F32, &Device::Cpu).map(Some);
        }
        Tensor::cat(&rows, 0).map(Some)
    }

    /// Returns the size of a tensor in the file, in bytes; 0 if the file does not have it.
    pub(crate) fn bytes_of(&self, name: &str) -> u64 {
        let info = self.content.tensor_infos.get(name);
        info.map_or(0, |info| bytes_of(info.ggml_dtype, info.shape.elem_count() as u64))
    }
}

/// Returns the dimensions under which a GGUF holds a tensor. It has at most four, so of a tensor
/// with more, all but the first are joined.
pub(crate) fn stored_dims(dims: &[usize]) -> Vec<usize> {
    match dims {
        [first, rest @ ..] if dims.len() > DIMS_MAX => vec![*first, rest.iter().product()],
        _ => dims.to_vec(),
    }
}

fn bytes_of(dtype: GgmlDType, values: u64) -> u64 {
    values / dtype.block_size() as u64 * dtype.type_size() as u64
}

/// Returns the end of a tensor in bytes after the first tensor's start, or `None` if it exceeds
/// `u64`.
fn end_of(info: &TensorInfo) -> Option<u64> {
    let mut dims = info.shape.dims().iter();
    let values = dims.try_fold(1_u64, |values, &dim| values.checked_mul(dim as u64))?;
    let bytes = (values / info.ggml_dtype.block_size() as u64)
        .checked_mul(info.ggml_dtype.type_size() as u64)?;
    info.offset.checked_add(bytes)
}

fn is_quantised(dtype: GgmlDType) -> bool {
    !matches!(dtype, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16)
}

/// Writes texts and tensors as a GGUF. The file appears at `path` only when it is complete.
///
/// # Errors
/// Fails if the file cannot be written.
pub(crate) fn write_gguf(
    path: &Path,
    texts: &[(&str, String)],
    tensors: &[(String, QTensor)],
) -> Result<(), WeightsError> {
    let write_error = |reason| WeightsError::Write { path: path.to_owned(), reason };
    let refused = |error: &dyn Display| write_error(std::io::Error::other(error.to_string()));
    let mut writer = BufWriter::new(temporary_file_for(path).map_err(write_error)?);
    let values: Vec<(&str, Value)> =
        texts.iter().map(|(key, text)| (*key, Value::String(text.clone()))).collect();
    let metadata: Vec<(&str, &Value)> = values.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut writer, &metadata, &tensors).map_err(|error| refused(&error))?;
    writer.flush().map_err(write_error)?;
    let file = writer.into_inner().map_err(|error| write_error(error.into_error()))?;
    file.persist(path).map_err(|error| write_error(error.error))?;
    Ok(())
}
