//! Norms of the heads of a row, and the gates of Qwen3.5's two mixers.

use candle_core::{DType, Result, Tensor};

use crate::models::kernels::{self, accepts};
use crate::models::ops::{self, Function, TensorOps, cat};

/// Divides each head by the root of its mean square, then scales it by weights of its own.
#[derive(Debug, Clone)]
pub struct HeadNorm {
    /// `(heads, head_dim)` f32.
    weights: Tensor,
    /// `(head_dim)` f32.
    ones: Tensor,
    eps: f32,
}

impl HeadNorm {
    /// Creates a norm of the first heads of a row, with weights `(heads, head_dim)` f32.
    ///
    /// # Errors
    /// Fails if the weights are no matrix.
    pub fn new(weights: Tensor, eps: f32) -> Result<Self> {
        let ones = ops::ones(weights.dim(1)?, DType::F32, weights.device())?;
        Ok(Self { weights, ones, eps })
    }

    /// Normalises the first heads of `(rows, columns)`; other columns are unchanged.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        if accepts(rows) {
            kernels::head_norm(rows, &self.weights, self.eps)
        } else {
            self.plain(rows)
        }
    }

    fn plain(&self, rows: &Tensor) -> Result<Tensor> {
        let (count, columns) = rows.dims2()?;
        let (heads, head_dim) = self.weights.dims2()?;
        let width = heads * head_dim;
        let wide = rows.narrow(1, 0, width)?.cast(DType::F32)?;
        let normal =
            ops::rms_norm(&wide.reshaped((count, heads, head_dim))?, &self.ones, self.eps)?
                .times_repeated(&self.weights)?
                .reshaped((count, width))?
                .cast(rows.dtype())?;
        if width == columns {
            return Ok(normal);
        }
        cat(&[&normal, &rows.narrow(1, width, columns - width)?], 1)
    }
}

/// Normalises each head of `rows (rows, heads · head_dim)` f32 by the root of its mean square,
/// scales it by `weight (head_dim)` f32 and multiplies with `silu(gate)`: `head_dim` times the
/// heads' number of columns of `gates (rows, columns)`, starting at `first`. The result has the
/// dtype of `gates`.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn gated_norm(
    rows: &Tensor,
    weight: &Tensor,
    (gates, first): (&Tensor, usize),
    eps: f32,
) -> Result<Tensor> {
    if accepts(rows) && accepts(gates) {
        return kernels::gated_norm(rows, weight, (gates, first), eps);
    }
    let (count, width) = rows.dims2()?;
    let head_dim = weight.dim(0)?;
    let heads = rows.reshaped((count, width / head_dim, head_dim))?;
    let normal = ops::rms_norm(&heads, weight, eps)?.reshaped((count, width))?;
    let gate = gates.narrow(1, first, width)?.cast(DType::F32)?.each(Function::Silu)?;
    normal.times(&gate)?.cast(gates.dtype())
}

/// Multiplies `rows (rows, width)` with `sigmoid(gate)`: `width` columns of `gates (rows, columns)`
/// of the same dtype, starting at `first`. May overwrite `rows`; their storage must not be shared.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn sigmoid_gate(rows: Tensor, (gates, first): (&Tensor, usize)) -> Result<Tensor> {
    if accepts(&rows) && accepts(gates) {
        return kernels::sigmoid_gate(rows, (gates, first));
    }
    let gate = gates.narrow(1, first, rows.dim(1)?)?.each(Function::Sigmoid)?;
    rows.times(&gate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernels_equal_the_plain_forms() -> Result<()> {
        for (rows, heads, head_dim, columns) in [(1, 1, 2, 2), (7, 3, 20, 80), (90, 4, 64, 300)] {
            let norm = HeadNorm::new(random(1.0, 0.3, &[heads, head_dim])?, 1e-6)?;
            let xs = random(0.2, 2.0, &[rows, columns])?;
            assert_close(&norm.forward(&xs)?, &norm.plain(&xs)?, 4e-6)?;
            let width = heads * head_dim;
            let inner = random(0.2, 2.0, &[rows, width])?;
            let weight = random(1.0, 0.3, &[head_dim])?;
            // Values behind a view that is not contiguous take the plain form.
            let strided = Tensor::cat(&[&xs, &xs], 1)?.narrow(1, 0, columns)?;
            for first in [0, columns - width] {
                let ours = gated_norm(&inner, &weight, (&xs, first), 1e-6)?;
                let plain = gated_norm(&inner, &weight, (&strided, first), 1e-6)?;
                assert_close(&ours, &plain, 1e-5)?;
                let ours = sigmoid_gate(inner.copy()?, (&xs, first))?;
                assert_close(&ours, &sigmoid_gate(inner.copy()?, (&strided, first))?, 1e-6)?;
            }
        }
        Ok(())
    }
}
