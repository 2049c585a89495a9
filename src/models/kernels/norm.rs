//! Normalisation over the last dimension.

use candle_core::{Result, Tensor};
use pulp::Simd;

use crate::models::kernels::row_op::{RowOp, each_row};
use crate::models::kernels::values::Values;
use crate::models::kernels::vector;

/// Layer normalisation of `xs (…, channels)` with `weight (channels)` and `bias (channels)`.
pub(crate) fn layer_norm(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let (weight, bias) = (Values::of(weight)?, Values::of(bias)?);
    let source = Values::of(xs)?;
    let mut values = vec![0.0; source.len()];
    let op = LayerNormRow { source: &source, weight: &weight, bias: &bias, eps };
    each_row(&mut values, weight.len(), &op);
    Tensor::from_vec(values, xs.shape(), xs.device())
}

/// Root-mean-square normalisation of `xs (…, channels)` with `weight (channels)`.
pub(crate) fn rms_norm(xs: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let (source, weight) = (Values::of(xs)?, Values::of(weight)?);
    let mut values = vec![0.0; source.len()];
    let op = RmsNormRow { source: &source, weight: &weight, eps };
    each_row(&mut values, weight.len(), &op);
    Tensor::from_vec(values, xs.shape(), xs.device())
}

struct LayerNormRow<'a> {
    source: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl RowOp for LayerNormRow<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let columns = row.len();
        row.copy_from_slice(&self.source[index * columns..][..columns]);
        vector::normalise(simd, row, self.weight, self.bias, self.eps);
    }
}

struct RmsNormRow<'a> {
    source: &'a [f32],
    weight: &'a [f32],
    eps: f32,
}

impl RowOp for RmsNormRow<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let columns = row.len();
        let source = &self.source[index * columns..][..columns];
        vector::normalise_by_rms(simd, row, source, self.weight, self.eps);
    }
}
