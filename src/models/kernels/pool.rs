//! Pooling on maps of tokens.

use candle_core::{Result, Tensor};
use pulp::Simd;

use crate::models::kernels::row_op::{RowOp, each_row};
use crate::models::kernels::values::Values;
use crate::models::kernels::vector;

/// The maximum of each 2 × 2 tokens: `(batch, height, width, channels)` with even sides to
/// `(batch, height/2, width/2, channels)`.
pub(crate) fn max_pool_2x2(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let source = Values::of(map)?;
    let mut values = vec![0.0; source.len() / 4];
    each_row(&mut values, channels, &MaxPool { source: &source, width });
    Tensor::from_vec(values, (batch, height / 2, width / 2, channels), map.device())
}

/// The mean of each 2 × 2 tokens: `(batch, height, width, channels)` to `(batch, ⌊height/2⌋,
/// ⌊width/2⌋, channels)`.
pub(crate) fn mean_pool_2x2(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let source = Values::of(map)?;
    let shape = (batch, height / 2, width / 2, channels);
    let mut values = vec![0.0; batch * (height / 2) * (width / 2) * channels];
    each_row(&mut values, channels, &MeanPool { source: &source, height, width });
    Tensor::from_vec(values, shape, map.device())
}

/// Computes one token of the result in each row.
struct MeanPool<'a> {
    source: &'a [f32],
    height: usize,
    width: usize,
}

impl RowOp for MeanPool<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let channels = row.len();
        let (across, down) = (self.width / 2, self.height / 2);
        let (picture, y, x) = (index / (across * down), index / across % down, index % across);
        let token = |dy: usize, dx: usize| {
            let token = (picture * self.height + 2 * y + dy) * self.width + 2 * x + dx;
            &self.source[token * channels..][..channels]
        };
        row.copy_from_slice(token(0, 0));
        for other in [token(0, 1), token(1, 0), token(1, 1)] {
            vector::add(simd, row, other);
        }
        vector::scale(simd, row, 0.25);
    }
}

/// Computes one token of the result in each row.
struct MaxPool<'a> {
    source: &'a [f32],
    width: usize,
}

impl RowOp for MaxPool<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let channels = row.len();
        let (y, x) = (index / (self.width / 2), index % (self.width / 2));
        let token = |dy: usize, dx: usize| {
            let token = (2 * y + dy) * self.width + 2 * x + dx;
            &self.source[token * channels..][..channels]
        };
        row.copy_from_slice(token(0, 0));
        for other in [token(0, 1), token(1, 0), token(1, 1)] {
            vector::maximum(simd, row, other);
        }
    }
}
