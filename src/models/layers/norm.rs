//! Layer normalisation over the last dimension.

use candle_core::{D, DType, Result, Tensor};

use crate::models::kernels;

/// Normalises the last dimension to mean 0 and variance 1, then scales and shifts it.
///
/// The variance is the biased one, and the statistics are computed in `f32` for every dtype. On
/// tokens with their channels last this is also the `LayerNorm2d` of SAM.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Creates a norm with a weight and a bias, both `(channels)`.
    pub fn new(weight: Tensor, bias: Tensor, eps: f32) -> Self {
        Self { weight, bias, eps }
    }

    /// `(…, channels)` to `(…, channels)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if kernels::accepts(xs) {
            kernels::layer_norm(xs, &self.weight, &self.bias, self.eps)
        } else {
            self.plain(xs)
        }
    }

    fn plain(&self, xs: &Tensor) -> Result<Tensor> {
        let wide = xs.to_dtype(DType::F32)?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + f64::from(self.eps))?.sqrt()?)?;
        let scaled = normal.broadcast_mul(&self.weight.to_dtype(DType::F32)?)?;
        scaled.broadcast_add(&self.bias.to_dtype(DType::F32)?)?.to_dtype(xs.dtype())
    }

    /// Returns weight, bias and epsilon, for a kernel that normalises as one of its steps.
    pub fn parts(&self) -> (&Tensor, &Tensor, f32) {
        (&self.weight, &self.bias, self.eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form_also_far_from_zero() -> Result<()> {
        for (rows, channels, mean) in [(1, 1, 0.0_f32), (5, 12, 3.0), (300, 144, 0.0), (9, 96, 1e3)]
        {
            let xs = random(mean, 2.0, &[rows, channels])?;
            let weight = random(1.0, 0.2, &[channels])?;
            let bias = random(0.0, 0.2, &[channels])?;
            let norm = LayerNorm::new(weight, bias, 1e-6);
            assert_close(&norm.forward(&xs)?, &norm.plain(&xs)?, 2e-6 * f64::from(1.0 + mean))?;
        }
        Ok(())
    }
}
