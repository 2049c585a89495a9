//! Operations on rows that candle has one kernel for.

use candle_core::{Result, Tensor};

use crate::models::device::dry_run::Kernel;
use crate::models::ops::launch::launch;
use crate::models::ops::tensor_ops::TensorOps;

/// Computes a softmax over the last dimension, in the tensor's dtype.
///
/// # Errors
/// Fails on an error of the device.
pub(crate) fn softmax_last_dim(xs: &Tensor) -> Result<Tensor> {
    let xs = xs.dense()?;
    let result = (xs.shape().clone(), xs.dtype());
    launch(Kernel::Softmax { rows: rows_of(&xs) }, &[&xs], result, || {
        candle_nn::ops::softmax_last_dim(&xs)
    })
}

/// Computes a layer norm over the last dimension, with its statistics in `f32`; `weight` and `bias`
/// are `(channels)` in the dtype of `xs`. The variance is the mean square less the squared mean:
/// for a mean of 30 standard deviations it loses three digits, and for nearly equal channels the
/// result is not a number. The tokens of a network are neither.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub(crate) fn layer_norm(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let xs = xs.dense()?;
    let result = (xs.shape().clone(), xs.dtype());
    launch(Kernel::Norm { rows: rows_of(&xs) }, &[&xs, weight, bias], result, || {
        candle_nn::ops::layer_norm(&xs, weight, bias, eps)
    })
}

/// Computes a root-mean-square norm over the last dimension, with its statistics in `f32`; `weight`
/// is `(channels)` in the dtype of `xs`. The result is rounded once, after the weight.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub(crate) fn rms_norm(xs: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let xs = xs.dense()?;
    let result = (xs.shape().clone(), xs.dtype());
    launch(Kernel::Norm { rows: rows_of(&xs) }, &[&xs, weight], result, || {
        candle_nn::ops::rms_norm(&xs, weight, eps)
    })
}

/// Rotates `rows (sequences, n, heads, head_dim)` by `cosines` and `sines (n, head_dim / 2)`, all
/// of one dtype: the half-split form.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub(crate) fn rotate(rows: &Tensor, cosines: &Tensor, sines: &Tensor) -> Result<Tensor> {
    let rows = rows.dense()?;
    let result = (rows.shape().clone(), rows.dtype());
    launch(Kernel::Elementwise, &[&rows, cosines, sines], result, || {
        candle_nn::rotary_emb::rope_thd(&rows, cosines, sines)
    })
}

fn rows_of(xs: &Tensor) -> u64 {
    let outer = xs.dims().split_last().map_or(1, |(_, outer)| outer.iter().product());
    outer as u64
}
