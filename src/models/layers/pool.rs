//! Pooling on maps of tokens.

use candle_core::{Result, Tensor};
use pulp::Simd;

use super::cpu::{RowOp, Values, each_row, takes};
use super::vector;

/// The maximum of each 2 × 2 tokens: `(batch, height, width, channels)` with even sides to
/// `(batch, height/2, width/2, channels)`.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn max_pool_2x2(map: &Tensor) -> Result<Tensor> {
    if takes(map) { fused(map) } else { plain(map) }
}

fn plain(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let pairs = &[batch, height / 2, 2, width / 2, 2, channels][..];
    map.reshape(pairs)?.max(4)?.max(2)
}

fn fused(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let source = Values::of(map)?;
    let mut values = vec![0.0; source.len() / 4];
    each_row(&mut values, channels, &Pool { source: &source, width });
    Tensor::from_vec(values, (batch, height / 2, width / 2, channels), map.device())
}

struct Pool<'a> {
    source: &'a [f32],
    width: usize,
}

impl RowOp for Pool<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    #[test]
    fn the_op_equals_the_plain_form() -> Result<()> {
        for shape in [[1, 2, 2, 1], [2, 8, 6, 24], [1, 16, 16, 37]] {
            let map = random(0.0, 1.0, &shape)?;
            assert_close(&fused(&map)?, &plain(&map)?, 0.0)?;
        }
        Ok(())
    }
}
