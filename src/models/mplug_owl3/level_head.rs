//! The output head for the tokens of the levels alone: K rows instead of a vocabulary.

use candle_core::{DType, Device, Result, Tensor};

use super::qwen2::Decoder;
use crate::models::layers::matmul;

/// Rows of the head.
#[derive(Debug, Clone)]
pub struct LevelHead {
    /// `(levels, hidden)` f32: K logits cost nothing, so they are not rounded.
    rows: Tensor,
}

impl LevelHead {
    /// Takes the rows of these tokens, from level 1 to level K.
    ///
    /// # Errors
    /// A token that the head does not have.
    pub fn new(decoder: &Decoder, tokens: &[u32]) -> Result<Self> {
        let tokens = Tensor::new(tokens, decoder.device())?;
        Ok(Self { rows: decoder.head().rows(&tokens)?.to_dtype(DType::F32)? })
    }

    /// Hidden states behind the last norm, `(n, hidden)`, to a logit for each level, on the CPU.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn logits(&self, hidden: &Tensor) -> Result<Vec<Vec<f64>>> {
        let logits = matmul(&hidden.to_dtype(DType::F32)?, &self.rows.t()?)?;
        // Not every GPU has double precision.
        let logits = logits.to_device(&Device::Cpu)?;
        logits.to_dtype(DType::F64)?.to_vec2()
    }
}
