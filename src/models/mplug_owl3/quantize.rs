//! A checkpoint with the language model's matrices in quantised blocks, all in one GGUF: for machines
//! that cannot hold it otherwise.
//!
//! The vision tower, the images' keys, norms, biases and gates stay as they are: they are small, or
//! each image passes through them hundreds of times.

use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::checkpoint::{CONFIG_KEY, Checkpoint, TOKENIZER_KEY};
use super::tokenizer::TokenizerError;
use crate::models::weights::{WeightsError, write_gguf};

/// How matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// 8 bits for each weight, one scale for 32: 8.5 bits in all.
    Q8_0,
    /// 4 bits, scales and offsets for 32 in blocks of 256: 4.5 bits in all. Rows that are no whole number
    /// of blocks are stored as `Q8_0`, and so are the embedding and the head.
    Q4K,
}

/// Why a checkpoint was not quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Its tokenizer, which goes into the file.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A tensor that does not divide into blocks of any format.
    #[error(
        "{name}: rows of {width} values do not divide into blocks; this network cannot be quantised"
    )]
    Blocks {
        /// The tensor.
        name: String,
        /// Its row's length.
        width: usize,
    },
    /// It is quantised already.
    #[error("{path} is quantised already; quantise the original", path = .path.display())]
    Already {
        /// The file.
        path: std::path::PathBuf,
    },
    /// What the tensor library says.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Writes a checkpoint, quantised, to `path`. `progress` is told of each tensor: how many are done, and
/// of how many.
///
/// # Errors
/// Weights that cannot be read, are quantised already, or have rows that no format divides.
pub fn quantize(
    checkpoint: &Checkpoint,
    format: Format,
    path: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), QuantizeError> {
    let weights = checkpoint.weights();
    let names: Vec<&String> =
        weights.shapes().keys().filter(|name| !checkpoint.is_unused(name)).collect();
    if names.iter().any(|name| weights.is_quantised(name)) {
        return Err(QuantizeError::Already { path: weights.path().to_owned() });
    }
    let (_, tokenizer) = checkpoint.tokenizer_json()?;
    let mut tensors = Vec::with_capacity(names.len());
    for (index, &name) in names.iter().enumerate() {
        let tensor = weights.load_as_stored(name, &Device::Cpu)?;
        let stored = match place_of(name) {
            Place::Matrix => in_blocks(&tensor, name, format)?,
            Place::Table => in_blocks(&tensor, name, Format::Q8_0)?,
            Place::AsItIs => as_it_is(&tensor)?,
        };
        tensors.push((name.clone(), stored));
        progress(index + 1, names.len());
    }
    let texts = [
        ("general.architecture", "mplug_owl3".to_owned()),
        (CONFIG_KEY, checkpoint.config_json().to_owned()),
        (TOKENIZER_KEY, tokenizer),
    ];
    Ok(write_gguf(path, &texts, &tensors)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Of a decoder layer.
    Matrix,
    /// The embedding or the head.
    Table,
    AsItIs,
}

fn place_of(name: &str) -> Place {
    const MATRICES: [&str; 7] = [
        ".self_attn.q_proj.weight",
        ".self_attn.k_proj.weight",
        ".self_attn.v_proj.weight",
        ".self_attn.o_proj.weight",
        ".mlp.gate_proj.weight",
        ".mlp.up_proj.weight",
        ".mlp.down_proj.weight",
    ];
    match name {
        "language_model.lm_head.weight" | "language_model.model.embed_tokens.weight" => {
            Place::Table
        }
        _ if name.starts_with("language_model.")
            && MATRICES.iter().any(|end| name.ends_with(end)) =>
        {
            Place::Matrix
        }
        _ => Place::AsItIs,
    }
}

fn in_blocks(tensor: &Tensor, name: &str, format: Format) -> Result<QTensor, QuantizeError> {
    let width = tensor.dims().last().copied().unwrap_or_default();
    let wanted = match format {
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q4K => GgmlDType::Q4K,
    };
    let fits = |dtype: &GgmlDType| width.is_multiple_of(dtype.block_size());
    let Some(dtype) = [wanted, GgmlDType::Q8_0].into_iter().find(fits) else {
        return Err(QuantizeError::Blocks { name: name.to_owned(), width });
    };
    Ok(QTensor::quantize(tensor, dtype)?)
}

/// The values as they are, in the file's dtype.
fn as_it_is(tensor: &Tensor) -> Result<QTensor, QuantizeError> {
    let dtype = match tensor.dtype() {
        DType::F16 => GgmlDType::F16,
        DType::BF16 => GgmlDType::BF16,
        _ => GgmlDType::F32,
    };
    Ok(QTensor::quantize(tensor, dtype)?)
}
