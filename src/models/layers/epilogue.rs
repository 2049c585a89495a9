//! Bias, activation and residual after a matrix product.
//!
//! Each function may overwrite `product`, so its storage must not be shared.

use candle_core::{DType, Result, Tensor};

use crate::models::kernels::{self, accepts};
use crate::models::ops::{Function, TensorOps};

/// `product (…, n) + bias (n)`, in their common dtype. May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_bias(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if accepts(&product) {
        return kernels::add_bias(product, bias);
    }
    product.plus_repeated(bias)
}

/// `gelu(product (…, n) + bias (n))` with the error function.
/// May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_bias_gelu(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if accepts(&product) {
        return kernels::add_bias_gelu(product, bias);
    }
    gelu(&product.plus_repeated(bias)?)
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
    let sum = product.plus_repeated(bias)?;
    // In a half format, the library would round each step of the approximation.
    sum.cast(DType::F32)?.each(Function::GeluTanh)?.cast(sum.dtype())
}

/// `product (…, n) + shortcut (…, n)`. May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_residual(product: Tensor, shortcut: &Tensor) -> Result<Tensor> {
    if accepts(&product) && accepts(shortcut) {
        return kernels::add_residual(product, shortcut);
    }
    product.plus(shortcut)
}

/// `product (…, n) + bias (n) + shortcut (…, n)`. May overwrite `product`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn add_bias_residual(product: Tensor, bias: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
    if accepts(&product) {
        return kernels::add_bias_residual(product, bias, shortcut);
    }
    product.plus_repeated(bias)?.plus(shortcut)
}

/// `gelu(xs)` with the error function. In a half format, a GPU rounds the distribution function
/// before it multiplies.
///
/// # Errors
/// Fails on an error of the device.
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    xs.each(Function::GeluErf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn gelu_in_a_half_format_is_gelu_rounded() -> Result<()> {
        let xs = random(0.0, 3.0, &[40, 50])?;
        for (dtype, tolerance) in [(DType::BF16, 2e-2), (DType::F16, 2e-3)] {
            let half = xs.to_dtype(dtype)?;
            let wide = half.to_dtype(DType::F32)?.gelu_erf()?;
            assert_close(&gelu(&half)?.to_dtype(DType::F32)?, &wide, tolerance)?;
        }
        Ok(())
    }

    #[test]
    fn one_pass_equals_the_plain_operations() -> Result<()> {
        for shape in [[1, 1], [3, 5], [7, 96], [1000, 37]] {
            let product = random(0.0, 3.0, &shape)?;
            let shortcut = random(1.0, 2.0, &shape)?;
            let bias = random(0.0, 1.0, &shape[1..])?;
            let sum = product.broadcast_add(&bias)?;
            assert_close(&add_bias(product.copy()?, &bias)?, &sum, 1e-6)?;
            assert_close(&add_bias_gelu(product.copy()?, &bias)?, &gelu(&sum)?, 1e-6)?;
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
