//! A linear layer over the last dimension.

use candle_core::{DType, Result, Tensor};

use crate::models::layers::epilogue::{
    add_bias, add_bias_gelu, add_bias_gelu_tanh, add_bias_residual,
};
use crate::models::layers::matrix::product;
use crate::models::ops::TensorOps;

/// `x · weightᵀ + bias`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    /// True if the weight is in a half format, and bias and inputs are `f32`.
    is_widened: bool,
}

impl Linear {
    /// Creates a layer with a weight `(out, in)` and a bias `(out)`, in the dtype of the inputs.
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias, is_widened: false }
    }

    /// Creates a layer that also accepts a weight in a half format with bias and inputs in `f32`:
    /// each product converts it. That saves memory and costs time.
    pub fn with_half_weight(weight: Tensor, bias: Tensor) -> Self {
        let is_half = matches!(weight.dtype(), DType::BF16 | DType::F16);
        let is_widened = is_half && bias.dtype() == DType::F32;
        Self { weight, bias, is_widened }
    }

    /// Returns the weight, `(out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Returns the bias, `(out)`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// `(…, in)` to `(…, out)`, without the bias.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn product(&self, xs: &Tensor) -> Result<Tensor> {
        if self.is_widened {
            return product(&self.weight.cast(DType::F32)?, xs);
        }
        product(&self.weight, xs)
    }

    /// `(…, in)` to `(…, out)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        add_bias(self.product(xs)?, &self.bias)
    }

    /// `(…, in)` to `(…, out)`, then GELU with the error function.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward_gelu(&self, xs: &Tensor) -> Result<Tensor> {
        add_bias_gelu(self.product(xs)?, &self.bias)
    }

    /// `(…, in)` to `(…, out)`, then GELU in the tanh approximation.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward_gelu_tanh(&self, xs: &Tensor) -> Result<Tensor> {
        add_bias_gelu_tanh(self.product(xs)?, &self.bias)
    }

    /// `(…, in)` to `(…, out)`, then adds `shortcut (…, out)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward_residual(&self, xs: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        add_bias_residual(self.product(xs)?, &self.bias, shortcut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::random;

    #[test]
    fn a_weight_in_another_dtype_than_the_inputs_is_refused() -> Result<()> {
        let (weight, bias) = (random(0.0, 1.0, &[4, 8])?, random(0.0, 1.0, &[4])?);
        let (xs, shortcut) = (random(0.0, 1.0, &[2, 8])?, random(0.0, 1.0, &[2, 4])?);
        for half in [DType::BF16, DType::F16] {
            for layer in [
                Linear::new(weight.to_dtype(half)?, bias.clone()),
                Linear::new(weight.to_dtype(half)?, bias.to_dtype(half)?),
                Linear::with_half_weight(weight.to_dtype(half)?, bias.to_dtype(half)?),
                Linear::with_half_weight(weight.to_dtype(DType::F64)?, bias.clone()),
            ] {
                layer.product(&xs).unwrap_err();
                layer.forward(&xs).unwrap_err();
                layer.forward_gelu(&xs).unwrap_err();
                layer.forward_gelu_tanh(&xs).unwrap_err();
                layer.forward_residual(&xs, &shortcut).unwrap_err();
            }
            let widened = Linear::with_half_weight(weight.to_dtype(half)?, bias.clone());
            widened.product(&xs.to_dtype(half)?).unwrap_err();
        }
        Ok(())
    }

    #[test]
    fn a_half_weight_that_is_asked_for_multiplies_as_its_values_in_f32() -> Result<()> {
        let (weight, bias) = (random(0.0, 1.0, &[4, 8])?, random(0.0, 1.0, &[4])?);
        let xs = random(0.0, 1.0, &[2, 8])?;
        for half in [DType::BF16, DType::F16] {
            let weight = weight.to_dtype(half)?;
            let ours = Linear::with_half_weight(weight.clone(), bias.clone()).forward(&xs)?;
            let wide = Linear::new(weight.to_dtype(DType::F32)?, bias.clone()).forward(&xs)?;
            assert_eq!(ours.to_vec2::<f32>()?, wide.to_vec2::<f32>()?, "{half:?}");
            let whole = Linear::with_half_weight(weight, bias.to_dtype(half)?);
            assert_eq!(whole.forward(&xs.to_dtype(half)?)?.dtype(), half);
        }
        Ok(())
    }
}
