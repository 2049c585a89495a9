//! Bias, activation and residual after a matrix product.
//!
//! Each function may overwrite `product`, so its storage must not be shared.

use candle_core::{DType, Result, Tensor};

use crate::models::kernels::{self, accepts};

/// `product (…, n) + bias (n)`, in their common dtype. May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_bias(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if accepts(&product) {
        return kernels::add_bias(product, bias);
    }
    product.broadcast_add(bias)
}

/// `gelu(product (…, n) + bias (n))` with the error function, computed in `f32` for every dtype.
/// May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_bias_gelu(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if accepts(&product) {
        return kernels::add_bias_gelu(product, bias);
    }
    gelu_plain(&product.broadcast_add(bias)?)
}

/// `gelu(product (…, n) + bias (n))` in the tanh approximation, computed in `f32` for every dtype.
/// May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_bias_gelu_tanh(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if accepts(&product) {
        return kernels::add_bias_gelu_tanh(product, bias);
    }
    let sum = product.broadcast_add(bias)?;
    sum.to_dtype(DType::F32)?.gelu()?.to_dtype(sum.dtype())
}

/// `product (…, n) + shortcut (…, n)`. May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_residual(product: Tensor, shortcut: &Tensor) -> Result<Tensor> {
    if accepts(&product) && accepts(shortcut) {
        return kernels::add_residual(product, shortcut);
    }
    product + shortcut
}

/// `product (…, n) + bias (n) + shortcut (…, n)`. May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_bias_residual(product: Tensor, bias: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
    if accepts(&product) {
        return kernels::add_bias_residual(product, bias, shortcut);
    }
    product.broadcast_add(bias)? + shortcut
}

/// `gelu(xs)` with the error function, computed in `f32` for every dtype.
///
/// # Errors
/// Fails on an error of the device.
pub fn gelu_plain(xs: &Tensor) -> Result<Tensor> {
    xs.to_dtype(DType::F32)?.gelu_erf()?.to_dtype(xs.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn one_pass_equals_the_plain_operations() -> Result<()> {
        for shape in [[1, 1], [3, 5], [7, 96], [1000, 37]] {
            let product = random(0.0, 3.0, &shape)?;
            let shortcut = random(1.0, 2.0, &shape)?;
            let bias = random(0.0, 1.0, &shape[1..])?;
            let sum = product.broadcast_add(&bias)?;
            assert_close(&add_bias(product.copy()?, &bias)?, &sum, 1e-6)?;
            assert_close(&add_bias_gelu(product.copy()?, &bias)?, &gelu_plain(&sum)?, 1e-6)?;
            let ours = add_bias_gelu_tanh(product.copy()?, &bias)?;
            assert_close(&ours, &sum.gelu()?, 3e-6)?;
            let ours = add_bias_residual(product.copy()?, &bias, &shortcut)?;
            assert_close(&ours, &(sum + &shortcut)?, 1e-6)?;
            let ours = add_residual(product.copy()?, &shortcut)?;
            assert_close(&ours, &(product + &shortcut)?, 1e-6)?;
        }
        Ok(())
    }
}
