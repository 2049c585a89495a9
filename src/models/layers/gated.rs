//! The gate of Qwen2's MLP.

use candle_core::{D, DType, Result, Tensor};
use pulp::Simd;

use super::cpu::{RowOp, Values, each_row, takes};
use super::vector;

/// `silu(gate) · up` of rows `[gate | up]`: `(…, 2n)` to `(…, n)`; the activation is taken in `f32`.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn silu_gate(rows: &Tensor) -> Result<Tensor> {
    if takes(rows) { fused(rows) } else { plain(rows) }
}

fn plain(rows: &Tensor) -> Result<Tensor> {
    let half = rows.dim(D::Minus1)? / 2;
    let gate = rows.narrow(D::Minus1, 0, half)?.to_dtype(DType::F32)?.silu()?;
    gate.to_dtype(rows.dtype())? * rows.narrow(D::Minus1, half, half)?
}

fn fused(rows: &Tensor) -> Result<Tensor> {
    let source = Values::of(rows)?;
    let mut shape = rows.dims().to_vec();
    let half = rows.dim(D::Minus1)? / 2;
    *shape.last_mut().expect("rows have a length") = half;
    let mut values = vec![0.0; source.len() / 2];
    each_row(&mut values, half, &Gate { source: &source });
    Tensor::from_vec(values, shape, rows.device())
}

struct Gate<'a> {
    source: &'a [f32],
}

impl RowOp for Gate<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let half = row.len();
        let (gate, up) = self.source[index * 2 * half..][..2 * half].split_at(half);
        vector::silu_product(simd, row, gate, up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    #[test]
    fn the_op_equals_the_plain_form() -> Result<()> {
        for shape in [[1, 2], [3, 70], [50, 600]] {
            let rows = (random(0.0, 3.0, &shape)? * 4.0)?;
            assert_close(&fused(&rows)?, &plain(&rows)?, 3e-5)?;
        }
        Ok(())
    }
}
