//! Root-mean-square normalisation over the last dimension.

use candle_core::{D, DType, Result, Tensor};

use crate::models::kernels;

/// Divides the last dimension by the root of its mean square, then scales it.
///
/// The statistics are computed in `f32`. The quotient is rounded to the dtype before it is
/// multiplied with the weight, as in the reference (`Qwen2RMSNorm`).
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
            self.plain(xs)
        }
    }

    fn plain(&self, xs: &Tensor) -> Result<Tensor> {
        let wide = xs.to_dtype(DType::F32)?;
        let squares = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = wide.broadcast_div(&(squares + f64::from(self.eps))?.sqrt()?)?;
        normal.to_dtype(xs.dtype())?.broadcast_mul(&self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        for (rows, channels) in [(1, 1), (5, 12), (300, 144), (9, 896)] {
            let xs = random(0.3, 2.0, &[rows, channels])?;
            let norm = RmsNorm::new(random(1.0, 0.2, &[channels])?, 1e-6);
            assert_close(&norm.forward(&xs)?, &norm.plain(&xs)?, 4e-6)?;
        }
        Ok(())
    }
}
