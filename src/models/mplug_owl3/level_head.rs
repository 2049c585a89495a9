//! The output head for the level tokens alone: K rows instead of a vocabulary.

use candle_core::{DType, Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::layers::matmul;
use crate::models::mplug_owl3::qwen2::Decoder;

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
        let tokens = Tensor::new(tokens, decoder.device())?;
        let rows = decoder.head().rows(&tokens)?.to_dtype(DType::F32)?;
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
        let logits = matmul(&hidden.to_dtype(DType::F32)?, &self.rows.t()?)?;
        // Converted on the CPU, because not every GPU has double precision.
        to_cpu(&logits)?.to_dtype(DType::F64)?.to_vec2()
    }
}
