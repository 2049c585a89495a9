//! The output head for the level tokens alone: K rows instead of a vocabulary.

use candle_core::{DType, Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::mplug_owl3::qwen2::Decoder;
use crate::models::ops::{TensorOps, matmul, upload};

/// The head's rows of the level tokens.
#[derive(Debug, Clone)]
pub struct LevelHead {
    /// `(levels, hidden)` f32: K logits are cheap, so they are not rounded.
    rows: Tensor,
    /// `(levels)` u32, on the decoder's device.
    tokens: Tensor,
}

impl LevelHead {
    /// Looks up the rows of these tokens, from level 1 to level K.
    ///
    /// # Errors
    /// Fails on a token that the head does not have.
    pub fn new(decoder: &Decoder, tokens: &[u32]) -> Result<Self> {
        let tokens = upload(tokens.to_vec(), tokens.len(), decoder.device())?;
        let rows = decoder.head().rows(&tokens)?.cast(DType::F32)?;
        Ok(Self { rows, tokens })
    }

    /// Returns the level tokens, `(levels)` u32 on the decoder's device.
    pub fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// Returns a logit for each level, on the CPU, from hidden states after the last norm, `(n,
    /// hidden)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn logits(&self, hidden: &Tensor) -> Result<Vec<Vec<f64>>> {
        let logits = matmul(&hidden.cast(DType::F32)?, &self.rows.t()?)?;
        // Converted on the CPU, because not every GPU has double precision.
        to_cpu(&logits)?.to_dtype(DType::F64)?.to_vec2()
    }
}
