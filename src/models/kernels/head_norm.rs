//! Root-mean-square normalisation of the heads of a row, and the gates of Qwen3.5's mixers.

use candle_core::{Result, Tensor};
use pulp::Simd;

use crate::models::kernels::row_op::{RowOp, each_row};
use crate::models::kernels::values::{Values, in_place};
use crate::models::kernels::vector;

/// Normalises each of the first heads of `rows (rows, columns)`, and scales it by its row of
/// `weights (heads, head_dim)`. Other columns are copied.
pub(crate) fn head_norm(rows: &Tensor, weights: &Tensor, eps: f32) -> Result<Tensor> {
    let columns = rows.dim(1)?;
    let head_dim = weights.dim(1)?;
    let (source, weights) = (Values::of(rows)?, Values::of(weights)?);
    let mut values = vec![0.0; source.len()];
    each_row(&mut values, columns, &HeadNorm { source: &source, weights: &weights, head_dim, eps });
    Tensor::from_vec(values, rows.shape(), rows.device())
}

/// Normalises each head of `rows (rows, heads · head_dim)`, scales it by `weight (head_dim)` and
/// multiplies with the SiLU of `gates`, whose columns begin at `first`.
pub(crate) fn gated_norm(
    rows: &Tensor,
    weight: &Tensor,
    (gates, first): (&Tensor, usize),
    eps: f32,
) -> Result<Tensor> {
    let (source, weight) = (Values::of(rows)?, Values::of(weight)?);
    let (columns, values_of_gates) = (gates.dim(1)?, Values::of(gates)?);
    let gates = Gates { values: &values_of_gates, columns, first };
    let mut values = vec![0.0; source.len()];
    let op = GatedNorm { source: &source, weight: &weight, gates, eps };
    each_row(&mut values, rows.dim(1)?, &op);
    Tensor::from_vec(values, rows.shape(), rows.device())
}

/// Multiplies `rows (rows, width)` with the sigmoid of `gates`, whose columns begin at `first`. The
/// storage of `rows` must not be shared.
pub(crate) fn sigmoid_gate(rows: Tensor, (gates, first): (&Tensor, usize)) -> Result<Tensor> {
    let (width, columns) = (rows.dim(1)?, gates.dim(1)?);
    let values = Values::of(gates)?;
    let op = SigmoidGate(Gates { values: &values, columns, first });
    in_place(rows, |values| each_row(values, width, &op))
}

struct HeadNorm<'a> {
    source: &'a [f32],
    weights: &'a [f32],
    head_dim: usize,
    eps: f32,
}

impl RowOp for HeadNorm<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let columns = row.len();
        let source = &self.source[index * columns..][..columns];
        let (heads, rest) = row.split_at_mut(self.weights.len());
        let (from, from_rest) = source.split_at(self.weights.len());
        rest.copy_from_slice(from_rest);
        let weights = self.weights.chunks_exact(self.head_dim);
        let parts = heads.chunks_exact_mut(self.head_dim).zip(from.chunks_exact(self.head_dim));
        for ((to, from), weight) in parts.zip(weights) {
            vector::normalise_by_rms(simd, to, from, weight, self.eps);
        }
    }
}

/// Some columns of a matrix that has a row for each row of the result.
struct Gates<'a> {
    values: &'a [f32],
    columns: usize,
    first: usize,
}

impl Gates<'_> {
    #[inline(always)]
    fn row(&self, index: usize, width: usize) -> &[f32] {
        &self.values[index * self.columns + self.first..][..width]
    }
}

struct GatedNorm<'a> {
    source: &'a [f32],
    weight: &'a [f32],
    gates: Gates<'a>,
    eps: f32,
}

impl RowOp for GatedNorm<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let (width, head_dim) = (row.len(), self.weight.len());
        let source = self.source[index * width..][..width].chunks_exact(head_dim);
        for (to, from) in row.chunks_exact_mut(head_dim).zip(source) {
            vector::normalise_by_rms(simd, to, from, self.weight, self.eps);
        }
        vector::times_silu(simd, row, self.gates.row(index, width));
    }
}

struct SigmoidGate<'a>(Gates<'a>);

impl RowOp for SigmoidGate<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let gates = self.0.row(index, row.len());
        vector::times_sigmoid_each(simd, row, gates);
    }
}
