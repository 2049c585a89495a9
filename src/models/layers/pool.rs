//! Pooling on maps of tokens.

use candle_core::{Result, Tensor};

use crate::models::kernels;
use crate::models::ops::TensorOps;

/// Takes the maximum of each 2 × 2 tokens: `(batch, height, width, channels)` with even sides to
/// `(batch, height/2, width/2, channels)`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn max_pool_2x2(map: &Tensor) -> Result<Tensor> {
    if kernels::accepts(map) { kernels::max_pool_2x2(map) } else { plain(map) }
}

/// Takes the mean of each 2 × 2 tokens: `(batch, height, width, channels)` to `(batch, ⌊height/2⌋,
/// ⌊width/2⌋, channels)`. The last row or column of an odd side is dropped.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn mean_pool_2x2(map: &Tensor) -> Result<Tensor> {
    if kernels::accepts(map) { kernels::mean_pool_2x2(map) } else { plain_mean(map) }
}

fn plain_mean(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let (down, across) = (height / 2, width / 2);
    let even = map.narrow(1, 0, 2 * down)?.narrow(2, 0, 2 * across)?;
    let rows = even.reshaped((batch, down, 2, 2 * across * channels))?;
    let sums = rows.narrow(2, 0, 1)?.plus(&rows.narrow(2, 1, 1)?)?;
    let columns = sums.reshaped((batch, down, across, 2, channels))?;
    let sums = columns.narrow(3, 0, 1)?.plus(&columns.narrow(3, 1, 1)?)?;
    sums.affine_of(0.25, 0.0)?.reshaped((batch, down, across, channels))
}

/// Two element-wise maxima. A reduction over two values would have a block of threads for each
/// result.
fn plain(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let rows = map.reshaped((batch, height / 2, 2, width * channels))?;
    let upper = rows.narrow(2, 0, 1)?.larger(&rows.narrow(2, 1, 1)?)?;
    let columns = upper.reshaped((batch, height / 2, width / 2, 2, channels))?;
    let left = columns.narrow(3, 0, 1)?.larger(&columns.narrow(3, 1, 1)?)?;
    left.reshaped((batch, height / 2, width / 2, channels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        for shape in [[1, 2, 2, 1], [2, 8, 6, 24], [1, 16, 16, 37]] {
            let map = random(0.0, 1.0, &shape)?;
            assert_close(&kernels::max_pool_2x2(&map)?, &plain(&map)?, 0.0)?;
        }
        for shape in [[1, 2, 2, 1], [2, 9, 7, 24], [3, 4, 5, 37]] {
            let map = random(0.0, 1.0, &shape)?;
            assert_close(&kernels::mean_pool_2x2(&map)?, &plain_mean(&map)?, 1e-6)?;
        }
        Ok(())
    }
}
