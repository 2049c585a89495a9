//! The gate of Qwen2's MLP.

use candle_core::{D, DType, Result, Tensor};

use crate::models::kernels;
use crate::models::ops::{Function, TensorOps};

/// `silu(gate) · up` of rows `[gate | up]`: `(…, 2n)` to `(…, n)`, with the activation in `f32`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn silu_gate(rows: &Tensor) -> Result<Tensor> {
    if kernels::accepts(rows) { kernels::silu_gate(rows) } else { plain(rows) }
}

fn plain(rows: &Tensor) -> Result<Tensor> {
    let half = rows.dim(D::Minus1)? / 2;
    let gate = rows.narrow(D::Minus1, 0, half)?.cast(DType::F32)?.each(Function::Silu)?;
    gate.cast(rows.dtype())?.times(&rows.narrow(D::Minus1, half, half)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        for shape in [[1, 2], [3, 70], [50, 600]] {
            let rows = (random(0.0, 3.0, &shape)? * 4.0)?;
            assert_close(&kernels::silu_gate(&rows)?, &plain(&rows)?, 3e-5)?;
        }
        Ok(())
    }
}
