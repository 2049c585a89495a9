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
        Ok(())
    }
}
