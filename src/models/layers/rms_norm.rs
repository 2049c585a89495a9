//! Root-mean-square normalisation over the last dimension.

use candle_core::{D, DType, Result, Tensor};
use pulp::Simd;

use super::cpu::{RowOp, Values, each_row, takes};
use super::vector;

/// Divides the last dimension by the root of its mean square, then scales it.
///
/// The statistics are taken in `f32`; the quotient is rounded to the dtype before it meets the weight,
/// as in the reference (`Qwen2RMSNorm`).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// Takes a weight `(channels)`.
    pub fn new(weight: Tensor, eps: f32) -> Self {
        Self { weight, eps }
    }

    /// `(…, channels)` to the same.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if takes(xs) { self.fused(xs) } else { self.plain(xs) }
    }

    fn plain(&self, xs: &Tensor) -> Result<Tensor> {
        let wide = xs.to_dtype(DType::F32)?;
        let squares = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = wide.broadcast_div(&(squares + f64::from(self.eps))?.sqrt()?)?;
        normal.to_dtype(xs.dtype())?.broadcast_mul(&self.weight)
    }

    fn fused(&self, xs: &Tensor) -> Result<Tensor> {
        let (source, weight) = (Values::of(xs)?, Values::of(&self.weight)?);
        let mut values = vec![0.0; source.len()];
        let op = Normalise { source: &source, weight: &weight, eps: self.eps };
        each_row(&mut values, weight.len(), &op);
        Tensor::from_vec(values, xs.shape(), xs.device())
    }
}

struct Normalise<'a> {
    source: &'a [f32],
    weight: &'a [f32],
    eps: f32,
}

impl RowOp for Normalise<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let columns = row.len();
        let source = &self.source[index * columns..][..columns];
        vector::normalise_by_square(simd, row, source, self.weight, self.eps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    #[test]
    fn the_op_equals_the_plain_form() -> Result<()> {
        for (rows, channels) in [(1, 1), (5, 12), (300, 144), (9, 896)] {
            let xs = random(0.3, 2.0, &[rows, channels])?;
            let norm = RmsNorm::new(random(1.0, 0.2, &[channels])?, 1e-6);
            assert_close(&norm.fused(&xs)?, &norm.plain(&xs)?, 4e-6)?;
        }
        Ok(())
    }
}
