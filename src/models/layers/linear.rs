//! A linear layer over the last dimension.

use candle_core::{Result, Tensor};

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
}

impl Linear {
    /// Creates a layer with a weight `(out, in)` and a bias `(out)`. A weight of another dtype than
    /// the inputs is converted in each product, which saves memory and costs time.
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias }
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
        product(&self.weight.cast(xs.dtype())?, xs)
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
