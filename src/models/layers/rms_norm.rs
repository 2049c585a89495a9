//! Root-mean-square normalisation over the last dimension.

use candle_core::{Result, Tensor};

use crate::models::{kernels, ops};

/// Divides the last dimension by the root of its mean square, then scales it.
///
/// Computed in `f32` and rounded once, after the weight. The reference (`Qwen2RMSNorm`) rounds the
/// quotient to the dtype as well, which in a half format may change the last bit.
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

    /// `(…, channels)` to `(…, channels)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if kernels::accepts(xs) {
            kernels::rms_norm(xs, &self.weight, self.eps)
        } else {
            ops::rms_norm(xs, &self.weight, self.eps)
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType};

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
