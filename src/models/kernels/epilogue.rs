//! Bias, activation and residual after a matrix product, in one pass over the product.
//!
//! Each function overwrites `product`, whose storage must not be shared.

use candle_core::{D, Result, Tensor};
use pulp::Simd;

use crate::models::kernels::row_op::{RowOp, each_row};
use crate::models::kernels::values::{Values, in_place};
use crate::models::kernels::vector;

/// `product (…, n) + bias (n)`.
pub(crate) fn add_bias(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    let bias = Values::of(bias)?;
    in_place(product, |values| each_row(values, bias.len(), &AddBias(&bias)))
}

/// `gelu(product (…, n) + bias (n))` with the error function.
pub(crate) fn add_bias_gelu(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    let bias = Values::of(bias)?;
    in_place(product, |values| each_row(values, bias.len(), &AddBiasGelu(&bias)))
}

/// `gelu(product (…, n) + bias (n))` in the tanh approximation.
pub(crate) fn add_bias_gelu_tanh(product: Tensor, bias: &Tensor) -> Result<Tensor> {
    let bias = Values::of(bias)?;
    in_place(product, |values| each_row(values, bias.len(), &AddBiasGeluTanh(&bias)))
}

/// `product (…, n) + shortcut (…, n)`.
pub(crate) fn add_residual(product: Tensor, shortcut: &Tensor) -> Result<Tensor> {
    let (columns, shortcut) = (product.dim(D::Minus1)?, Values::of(shortcut)?);
    in_place(product, |values| each_row(values, columns, &AddResidual(&shortcut)))
}

/// `product (…, n) + bias (n) + shortcut (…, n)`.
pub(crate) fn add_bias_residual(
    product: Tensor,
    bias: &Tensor,
    shortcut: &Tensor,
) -> Result<Tensor> {
    let (bias, shortcut) = (Values::of(bias)?, Values::of(shortcut)?);
    let op = AddBiasResidual { bias: &bias, shortcut: &shortcut };
    in_place(product, |values| each_row(values, bias.len(), &op))
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
