//! The gate of Qwen2's MLP.

use candle_core::{D, Result, Tensor};
use pulp::Simd;

use crate::models::kernels::row_op::{RowOp, each_row};
use crate::models::kernels::values::Values;
use crate::models::kernels::vector;

/// `silu(gate) · up` of rows `[gate | up]`: `(…, 2n)` to `(…, n)`.
pub(crate) fn silu_gate(rows: &Tensor) -> Result<Tensor> {
    let source = Values::of(rows)?;
    let mut shape = rows.dims().to_vec();
    let half = rows.dim(D::Minus1)? / 2;
    *shape.last_mut().expect("rows have a length") = half;
    let mut values = vec![0.0; source.len() / 2];
    each_row(&mut values, half, &SiluGate { source: &source });
    Tensor::from_vec(values, shape, rows.device())
}

struct SiluGate<'a> {
    source: &'a [f32],
}

impl RowOp for SiluGate<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let half = row.len();
        let (gate, up) = self.source[index * 2 * half..][..2 * half].split_at(half);
        vector::silu_product(simd, row, gate, up);
    }
}
