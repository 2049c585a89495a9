//! Quantises the language model of a checkpoint into one GGUF, for machines that cannot hold it
//! otherwise.
//!
//! Everything else keeps its values: vision towers, norms, biases and gates are small, or run
//! hundreds of times for each image.

use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use crate::checkpoints::companion_files::{CONFIG_KEY, TOKENIZER_KEY};
use crate::checkpoints::weights::{Weights, WeightsError, stored_dims, write_gguf};
use crate::models::mplug_owl3::TokenizerError;

/// The block format of the language model's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 8 bits per weight and one scale per 32 weights: 8.5 bits in total.
    Q8_0,
    /// 4 bits per weight, with scales and offsets per 32 in blocks of 256: 4.5 bits in total. Rows
    /// that do not divide into such blocks are stored as `Q8_0`, and so are the embedding and the
    /// head of an mPLUG-Owl3, and the gates of a Qwen3.5-VL.
    Q4K,
}

/// A checkpoint cannot be quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The weights cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer, which becomes part of the file, cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A row does not divide into blocks of any format.
    #[error(
        "{name}: rows of {width} values do not divide into blocks; this network cannot be quantised"
    )]
    Blocks {
        /// The tensor.
        name: String,
        /// Number of values in a row.
        width: usize,
    },
    /// The checkpoint is already quantised.
    #[error("{path} is quantised already; quantise the original", path = .path.display())]
    Already {
        /// The file.
        path: PathBuf,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A checkpoint to be quantised.
pub(crate) struct Original<'a> {
    pub(crate) weights: &'a Weights,
    /// Name of the architecture in the metadata of the file.
    pub(crate) architecture: &'static str,
    pub(crate) config_json: &'a str,
    pub(crate) tokenizer_json: String,
    /// Further keys and values of the metadata.
    pub(crate) further_texts: &'a [(&'static str, &'a str)],
    /// Returns true for a tensor that the network does not use.
    pub(crate) is_unused: &'a dyn Fn(&str) -> bool,
    pub(crate) role_of: fn(&str) -> TensorRole,
}

/// Writes a quantised copy of a checkpoint to `path`. Calls `progress` after each tensor with the
/// number of finished tensors and the total.
///
/// # Errors
/// Fails if the weights cannot be read, are already quantised, or have rows that no format divides.
pub(crate) fn write_quantised(
    original: &Original<'_>,
    format: BlockFormat,
    path: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), QuantizeError> {
    let Original { weights, is_unused, role_of, .. } = *original;
    let names: Vec<&String> = weights.shapes().keys().filter(|name| !is_unused(name)).collect();
    if names.iter().any(|name| weights.is_quantised(name)) {
        return Err(QuantizeError::Already { path: weights.path().to_owned() });
    }
    let mut tensors = Vec::with_capacity(names.len());
    for (index, &name) in names.iter().enumerate() {
        let tensor = weights.load_as_stored(name, &Device::Cpu)?;
        let stored = match role_of(name) {
            TensorRole::DecoderMatrix => in_blocks(&tensor, name, format)?,
            TensorRole::SensitiveMatrix => in_blocks(&tensor, name, BlockFormat::Q8_0)?,
            TensorRole::Other => unquantised(&tensor)?,
        };
        tensors.push((name.clone(), stored));
        progress(index + 1, names.len());
    }
    let mut texts = vec![
        ("general.architecture", original.architecture.to_owned()),
        (CONFIG_KEY, original.config_json.to_owned()),
        (TOKENIZER_KEY, original.tokenizer_json.clone()),
    ];
    let further = original.further_texts.iter();
    texts.extend(further.map(|&(key, text)| (key, text.to_owned())));
    Ok(write_gguf(path, &texts, &tensors)?)
}

/// The use of a tensor, which determines how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorRole {
    /// A matrix of a decoder layer: stored in the chosen format.
    DecoderMatrix,
    /// A matrix whose errors weigh more, such as an embedding: stored as `Q8_0`.
    SensitiveMatrix,
    /// Any other tensor: not quantised.
    Other,
}

fn in_blocks(tensor: &Tensor, name: &str, format: BlockFormat) -> Result<QTensor, QuantizeError> {
    let width = tensor.dims().last().copied().unwrap_or_default();
    let preferred = match format {
        BlockFormat::Q8_0 => GgmlDType::Q8_0,
        BlockFormat::Q4K => GgmlDType::Q4K,
    };
    let fits = |dtype: &GgmlDType| width.is_multiple_of(dtype.block_size());
    let Some(dtype) = [preferred, GgmlDType::Q8_0].into_iter().find(fits) else {
        return Err(QuantizeError::Blocks { name: name.to_owned(), width });
    };
    Ok(QTensor::quantize(tensor, dtype)?)
}

/// Keeps the values in the original's dtype.
fn unquantised(tensor: &Tensor) -> Result<QTensor, QuantizeError> {
    let dtype = match tensor.dtype() {
        DType::F16 => GgmlDType::F16,
        DType::BF16 => GgmlDType::BF16,
        _ => GgmlDType::F32,
    };
    let tensor = tensor.reshape(stored_dims(tensor.dims()))?;
    Ok(QTensor::quantize(&tensor, dtype)?)
}
