//! What follows a matrix product, in one pass over its result: bias, activation, residual.

use candle_core::{Result, Tensor};
use pulp::Simd;

use super::cpu::{RowOp, Values, each_row, in_place, takes};
use super::vector;

/// `product (…, n) + bias (n)`, of the dtype of both. `product` must be nobody else's.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn add_bias(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !takes(&product) {
        return product.broadcast_add(bias);
    }
    let bias = Values::of(bias)?;
    in_place(product, |values| each_row(values, bias.len(), &AddBias(&bias)))
}

/// `gelu(product (…, n) + bias (n))` with the error function, not its tanh approximation; taken in
/// `f32` whatever the dtype. `product` must be nobody else's.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn add_bias_gelu(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !takes(&product) {
        return gelu_plain(&product.broadcast_add(bias)?);
    }
    let bias = Values::of(bias)?;
    in_place(product, |values| each_row(values, bias.len(), &AddBiasGelu(&bias)))
}

/// `gelu(product (…, n) + bias (n))` in the tanh approximation, taken in `f32` whatever the dtype.
/// `product` must be nobody else's.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn add_bias_gelu_tanh(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !takes(&product) {
        let sum = product.broadcast_add(bias)?;
        return sum.to_dtype(candle_core::DType::F32)?.gelu()?.to_dtype(sum.dtype());
    }
    let bias = Values::of(bias)?;
    in_place(product, |values| each_row(values, bias.len(), &AddBiasGeluTanh(&bias)))
}

/// `product (…, n) + shortcut (…, n)`. `product` must be nobody else's.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn add_residual(product: Tensor, shortcut: &Tensor) -> Result<Tensor> {
    if !takes(&product) || !takes(shortcut) {
        return product + shortcut;
    }
    let (columns, shortcut) = (product.dim(candle_core::D::Minus1)?, Values::of(shortcut)?);
    in_place(product, |values| each_row(values, columns, &AddResidual(&shortcut)))
}

/// `product (…, n) + bias (n) + shortcut (…, n)`. `product` must be nobody else's.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn add_bias_residual(product: Tensor, bias: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
    if !takes(&product) {
        return product.broadcast_add(bias)? + shortcut;
    }
    let (bias, shortcut) = (Values::of(bias)?, Values::of(shortcut)?);
    let op = AddBiasResidual { bias: &bias, shortcut: &shortcut };
    in_place(product, |values| each_row(values, bias.len(), &op))
}

/// `gelu(xs)` with the error function, in `f32` whatever the dtype.
///
/// # Errors
/// What candle says of the device.
pub fn gelu_plain(xs: &Tensor) -> Result<Tensor> {
    let dtype = xs.dtype();
    xs.to_dtype(candle_core::DType::F32)?.gelu_erf()?.to_dtype(dtype)
}

struct AddBias<'a>(&'a [f32]);

impl RowOp for AddBias<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, _: usize, row: &mut [f32]) {
        vector::add(simd, row, self.0);
    }
}

struct AddBiasGelu<'a>(&'a [f32]);

impl RowOp for AddBiasGelu<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, _: usize, row: &mut [f32]) {
        vector::add(simd, row, self.0);
        vector::gelu_each(simd, row);
    }
}

struct AddBiasGeluTanh<'a>(&'a [f32]);

impl RowOp for AddBiasGeluTanh<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, _: usize, row: &mut [f32]) {
        vector::add(simd, row, self.0);
        vector::gelu_tanh_each(simd, row);
    }
}

struct AddResidual<'a>(&'a [f32]);

impl RowOp for AddResidual<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let columns = row.len();
        vector::add(simd, row, &self.0[index * columns..][..columns]);
    }
}

struct AddBiasResidual<'a> {
    bias: &'a [f32],
    shortcut: &'a [f32],
}

impl RowOp for AddBiasResidual<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        vector::add(simd, row, self.bias);
        let columns = row.len();
        vector::add(simd, row, &self.shortcut[index * columns..][..columns]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

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
