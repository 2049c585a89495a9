//! The output head for the level words alone: five rows instead of a vocabulary.

use candle_core::{DType, Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::layers::Matrix;
use crate::models::ops::TensorOps;
use crate::models::qwen3_5_vl::text::Decoder;

/// The head's rows of some tokens.
#[derive(Debug, Clone)]
pub struct LevelHead {
    /// `(tokens, hidden)` f32: a few logits are cheap, so they are not rounded. Packed on a CPU,
    /// where no logit then depends on the other rows of its batch.
    rows: Matrix,
}

impl LevelHead {
    /// Looks up the rows of these tokens.
    ///
    /// # Errors
    /// Fails on a token that the head does not have.
    pub fn new(decoder: &Decoder, tokens: &[u32]) -> Result<Self> {
        let rows = decoder.head().rows(tokens, DType::F32, decoder.device())?;
        Ok(Self { rows: Matrix::new(rows.dense()?)? })
    }

    /// Returns a logit for each token, on the CPU, from hidden states after the last norm, `(n,
    /// hidden)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn logits(&self, hidden: &Tensor) -> Result<Vec<Vec<f64>>> {
        let logits = self.rows.product(&hidden.cast(DType::F32)?)?;
        // Converted on the CPU, because not every GPU has double precision.
        to_cpu(&logits)?.to_dtype(DType::F64)?.to_vec2()
    }
}
