//! GGUF: quantised matrices, with all else that a network needs in one file.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Shape};

use super::beside::temporary_beside;
use super::error::{WeightsError, damaged};

/// An open file and its table.
pub(super) struct GgufFile {
    content: Content,
    reader: Mutex<BufReader<File>>,
}

impl GgufFile {
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let read = |reason| WeightsError::Read { path: path.to_owned(), reason };
        let mut reader = BufReader::new(File::open(path).map_err(read)?);
        // The reader takes a file's word for its alignment, and divides by it.
        let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut reader)))
            .map_err(|_| damaged(path, "GGUF", &"its table is malformed"))?
            .map_err(|error| damaged(path, "GGUF", &error))?;
        let length = reader.get_ref().metadata().map_err(read)?.len();
        for (name, info) in &content.tensor_infos {
            let end = end_of(info).and_then(|end| end.checked_add(content.tensor_data_offset));
            if end.is_none_or(|end| end > length) {
                return Err(damaged(path, "GGUF", &format!("`{name}` ends after the file")));
            }
        }
        Ok(Self { content, reader: Mutex::new(reader) })
    }

    pub(super) fn shapes(&self) -> impl Iterator<Item = (String, Shape)> {
        let infos = self.content.tensor_infos.iter();
        infos.map(|(name, info)| (name.clone(), info.shape.clone()))
    }

    /// Whether the tensor is in blocks that share their scales.
    pub(super) fn is_quantised(&self, name: &str) -> bool {
        self.content.tensor_infos.get(name).is_some_and(|info| is_quantised(info.ggml_dtype))
    }

    /// A text that was written beside the tensors.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let value = self.content.metadata.get(key)?;
        value.to_string().ok().map(String::as_str)
    }

    /// The tensor as it is stored; none when it is not there.
    pub(super) fn load(&self, name: &str, device: &Device) -> candle_core::Result<Option<QTensor>> {
        if !self.content.tensor_infos.contains_key(name) {
            return Ok(None);
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        self.content.tensor(&mut *reader, name, device).map(Some)
    }
}

/// Where a tensor ends, counted from the first one; none beyond all numbers.
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

/// Writes texts and tensors as a GGUF, first beside its place: what stands at `path` is whole.
///
/// # Errors
/// A folder that cannot be written to.
pub fn write_gguf(
    path: &Path,
    texts: &[(&str, String)],
    tensors: &[(String, QTensor)],
) -> Result<(), WeightsError> {
    let failed = |reason| WeightsError::Write { path: path.to_owned(), reason };
    let refused = |error: &dyn Display| failed(std::io::Error::other(error.to_string()));
    let mut writer = BufWriter::new(temporary_beside(path).map_err(failed)?);
    let values: Vec<(&str, Value)> =
        texts.iter().map(|(key, text)| (*key, Value::String(text.clone()))).collect();
    let metadata: Vec<(&str, &Value)> = values.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut writer, &metadata, &tensors).map_err(|error| refused(&error))?;
    writer.flush().map_err(failed)?;
    let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
