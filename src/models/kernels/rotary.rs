//! Rotary position embedding, the half-split form (`rotate_half`).

use candle_core::{Result, Tensor};
use pulp::Simd;

use crate::models::kernels::row_op::{RowOp, each_row};
use crate::models::kernels::values::{Values, in_place};

/// Rotates the first `heads` heads of `rows (sequences · n, columns)` in place by `cosines` and
/// `sines`, each `(n, rotated / 2)`: the first `rotated` values of each head of `head_dim`. The
/// storage of `rows` must not be shared.
pub(crate) fn rotate(
    rows: Tensor,
    (cosines, sines): (&Tensor, &Tensor),
    heads: usize,
    head_dim: usize,
) -> Result<Tensor> {
    let (count, half) = cosines.dims2()?;
    let columns = rows.dim(1)?;
    let (cosines, sines) = (Values::of(cosines)?, Values::of(sines)?);
    let op = RotateHeads { cosines: &cosines, sines: &sines, count, half, heads, head_dim };
    in_place(rows, |values| each_row(values, columns, &op))
}

struct RotateHeads<'a> {
    cosines: &'a [f32],
    sines: &'a [f32],
    /// Rows of angles, which repeat.
    count: usize,
    half: usize,
    heads: usize,
    head_dim: usize,
}

impl RowOp for RotateHeads<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, _: S, index: usize, row: &mut [f32]) {
        let first = index % self.count * self.half;
        let part = first..first + self.half;
        let (cosines, sines) = (&self.cosines[part.clone()], &self.sines[part]);
        for head in row.chunks_exact_mut(self.head_dim).take(self.heads) {
            let (first, second) = head[..2 * self.half].split_at_mut(self.half);
            let pairs = first.iter_mut().zip(second).zip(cosines.iter().zip(sines));
            for ((x, y), (cosine, sine)) in pairs {
                (*x, *y) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
            }
        }
    }
}
