//! Layer normalisation over the last dimension.

use candle_core::{Result, Tensor};

use crate::models::{kernels, ops};

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
            ops::layer_norm(xs, &self.weight, &self.bias, self.eps)
        }
    }

    /// Returns weight, bias and epsilon, for a kernel that normalises as one of its steps.
    pub fn parts(&self) -> (&Tensor, &Tensor, f32) {
        (&self.weight, &self.bias, self.eps)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType};

    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    /// The definition, step by step in `f32`.
    fn plain(norm: &LayerNorm, xs: &Tensor) -> Result<Tensor> {
        let wide = |xs: &Tensor| xs.to_dtype(DType::F32);
        let centred = wide(xs)?.broadcast_sub(&wide(xs)?.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + f64::from(norm.eps))?.sqrt()?)?;
        normal.broadcast_mul(&wide(&norm.weight)?)?.broadcast_add(&wide(&norm.bias)?)
    }

    fn norm_of(channels: usize, dtype: DType) -> Result<LayerNorm> {
        let weight = random(1.0, 0.2, &[channels])?.to_dtype(dtype)?;
        Ok(LayerNorm::new(weight, random(0.0, 0.2, &[channels])?.to_dtype(dtype)?, 1e-6))
    }

    #[test]
    fn the_kernel_equals_the_definition_also_far_from_zero() -> Result<()> {
        for (rows, channels, mean) in [(1, 1, 0.0_f32), (5, 12, 3.0), (300, 144, 0.0), (9, 96, 1e3)]
        {
            let xs = random(mean, 2.0, &[rows, channels])?;
            let norm = norm_of(channels, DType::F32)?;
            assert_close(&norm.forward(&xs)?, &plain(&norm, &xs)?, 2e-6 * f64::from(1.0 + mean))?;
        }
        Ok(())
    }

    #[test]
    fn one_operation_equals_the_definition_in_every_dtype() -> Result<()> {
        for (dtype, mean, tolerance) in [
            (DType::F32, 0.0, 4e-6),
            (DType::F32, 3.0, 2e-5),
            // Thirty standard deviations.
            (DType::F32, 60.0, 2e-3),
            (DType::BF16, 0.0, 3e-2),
            (DType::BF16, 3.0, 3e-2),
            (DType::F16, 0.0, 4e-3),
            (DType::F16, 3.0, 4e-3),
        ] {
            for (rows, channels) in [(5, 12), (300, 144), (7, 1152)] {
                let xs = random(mean, 2.0, &[rows, channels])?.to_dtype(dtype)?;
                let norm = norm_of(channels, dtype)?;
                let ours = ops::layer_norm(&xs, &norm.weight, &norm.bias, norm.eps)?;
                assert_close(&ours.to_dtype(DType::F32)?, &plain(&norm, &xs)?, tolerance)?;
            }
        }
        Ok(())
    }
}
