//! Root-mean-square normalisation over the last dimension.

use candle_core::{DType, Result, Tensor};

use crate::models::ops::TensorOps;
use crate::models::{kernels, ops};

/// Divides the last dimension by the root of its mean square, then scales it.
///
/// Computed in `f32` and rounded once, after the weight. Qwen2's reference (`Qwen2RMSNorm`) rounds
/// the quotient to the dtype as well, which in a half format may change the last bit.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// Creates a norm with a weight `(channels)`.
    pub fn new(weight: Tensor, eps: f32) -> Self {
        Self { weight, eps }
    }

    /// Creates a norm that scales by `1 + weight (channels)`, as Qwen3.5's does. The sum is in
    /// `f32` for every dtype: a half format would round it.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn of_offset(weight: &Tensor, eps: f32) -> Result<Self> {
        Ok(Self::new(weight.cast(DType::F32)?.affine_of(1.0, 1.0)?, eps))
    }

    /// `(…, channels)` to `(…, channels)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if kernels::accepts(xs) {
            kernels::rms_norm(xs, &self.weight, self.eps)
        } else {
            let wide = xs.cast(self.weight.dtype())?;
            ops::rms_norm(&wide, &self.weight, self.eps)?.cast(xs.dtype())
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    /// The reference, which rounds the quotient, too.
    fn plain(norm: &RmsNorm, xs: &Tensor) -> Result<Tensor> {
        let wide = xs.to_dtype(DType::F32)?;
        let squares = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = wide.broadcast_div(&(squares + f64::from(norm.eps))?.sqrt()?)?;
        normal.to_dtype(xs.dtype())?.broadcast_mul(&norm.weight)?.to_dtype(DType::F32)
    }

    #[test]
    fn an_offset_is_added_to_one_before_it_is_rounded() -> Result<()> {
        let weight = random(0.0, 0.01, &[96])?;
        let xs = random(0.3, 2.0, &[7, 96])?;
        let exact = RmsNorm::new((&weight + 1.0)?, 1e-6).forward(&xs)?;
        assert_close(&RmsNorm::of_offset(&weight, 1e-6)?.forward(&xs)?, &exact, 1e-6)?;
        let half = |tensor: &Tensor| tensor.to_dtype(DType::BF16);
        let ours = RmsNorm::of_offset(&half(&weight)?, 1e-6)?.forward(&half(&xs)?)?;
        assert_eq!(ours.dtype(), DType::BF16);
        // The input's and the result's rounding, no more.
        assert_close(&ours.to_dtype(DType::F32)?, &exact, 3e-2)
    }

    #[test]
    fn kernel_and_operation_equal_the_reference() -> Result<()> {
        for (dtype, tolerance) in [(DType::F32, 4e-6), (DType::BF16, 5e-2), (DType::F16, 6e-3)] {
            for (rows, channels) in [(1, 1), (5, 12), (300, 144), (9, 896)] {
                let xs = random(0.3, 2.0, &[rows, channels])?.to_dtype(dtype)?;
                let norm = RmsNorm::new(random(1.0, 0.2, &[channels])?.to_dtype(dtype)?, 1e-6);
                let expected = plain(&norm, &xs)?;
                for ours in [norm.forward(&xs)?, ops::rms_norm(&xs, &norm.weight, norm.eps)?] {
                    assert_close(&ours.to_dtype(DType::F32)?, &expected, tolerance)?;
                }
            }
        }
        Ok(())
    }
}
