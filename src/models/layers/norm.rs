//! Layer normalisation over the last dimension.

use candle_core::{DType, Result, Tensor};
use pulp::Simd;

use super::cpu::{RowOp, Values, each_row, takes};
use super::vector;

/// Normalises the last dimension to mean 0 and variance 1, then scales and shifts it.
///
/// The variance is the biased one, and the statistics are taken in `f32` whatever the dtype. On
/// tokens with their channels last this is also the `LayerNorm2d` of SAM.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Takes weight and bias, both `(channels)`.
    pub fn new(weight: Tensor, bias: Tensor, eps: f32) -> Self {
        Self { weight, bias, eps }
    }

    /// `(…, channels)` to the same.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if takes(xs) { self.fused(xs) } else { self.plain(xs) }
    }

    fn plain(&self, xs: &Tensor) -> Result<Tensor> {
        let dtype = xs.dtype();
        let xs = xs.to_dtype(DType::F32)?;
        let centred = xs.broadcast_sub(&xs.mean_keepdim(candle_core::D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(candle_core::D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + f64::from(self.eps))?.sqrt()?)?;
        let scaled = normal.broadcast_mul(&self.weight.to_dtype(DType::F32)?)?;
        scaled.broadcast_add(&self.bias.to_dtype(DType::F32)?)?.to_dtype(dtype)
    }

    fn fused(&self, xs: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (Values::of(&self.weight)?, Values::of(&self.bias)?);
        let source = Values::of(xs)?;
        let mut values = vec![0.0; source.len()];
        let op = Normalise { source: &source, weight: &weight, bias: &bias, eps: self.eps };
        each_row(&mut values, weight.len(), &op);
        Tensor::from_vec(values, xs.shape(), xs.device())
    }

    /// The parts, for an op that normalises along the way: weight, bias, epsilon.
    pub fn parts(&self) -> (&Tensor, &Tensor, f32) {
        (&self.weight, &self.bias, self.eps)
    }
}

struct Normalise<'a> {
    source: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl RowOp for Normalise<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let columns = row.len();
        row.copy_from_slice(&self.source[index * columns..][..columns]);
        vector::normalise(simd, row, self.weight, self.bias, self.eps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    #[test]
    fn the_op_equals_the_plain_form_also_far_from_zero() -> Result<()> {
        for (rows, channels, mean) in [(1, 1, 0.0_f32), (5, 12, 3.0), (300, 144, 0.0), (9, 96, 1e3)]
        {
            let xs = random(mean, 2.0, &[rows, channels])?;
            let weight = random(1.0, 0.2, &[channels])?;
            let bias = random(0.0, 0.2, &[channels])?;
            let norm = LayerNorm::new(weight, bias, 1e-6);
            assert_close(&norm.fused(&xs)?, &norm.plain(&xs)?, 2e-6 * f64::from(1.0 + mean))?;
        }
        Ok(())
    }
}
