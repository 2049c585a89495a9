//! Self-attention on a map of tokens, in windows or over the whole map: the inner part of a Hiera
//! block, between its two linear layers.

use candle_core::{D, DType, Result, Tensor};

use crate::models::kernels::{self, Windows};
use crate::models::layers::matmul::matmul;

/// `softmax(q kᵀ / √head_dim) v` for each window and head, heads merged again.
///
/// A map that is not a whole number of windows is padded at the bottom and the right with zeros
/// *before* the bias is added. The padding takes part in the softmax, as in the reference.
///
/// # Shapes
/// - `qkv`: `(batch, height, width, 3 · channels)`, the product without its bias; rows of
///   `[q | k | v]`, each `[heads, head_dim]`
/// - `bias`: `(3 · channels)`
/// - result: `(batch, height', width', channels)`; pooled queries halve both sides, and need
///   windows with an even side
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn windowed_attention(qkv: &Tensor, bias: &Tensor, windows: &Windows) -> Result<Tensor> {
    if kernels::accepts(qkv) {
        kernels::windowed_attention(qkv, bias, windows)
    } else {
        plain(qkv, bias, windows)
    }
}

fn plain(qkv: &Tensor, bias: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, height, width, columns) = qkv.dims4()?;
    let channels = columns / 3;
    let (mut tall, mut wide) = windows.side.map_or((height, width), |side| (side, side));
    let (down, across) = (height.div_ceil(tall), width.div_ceil(wide));
    // Split into windows: (batch · down · across, tall · wide, 3 · channels).
    let windowed = qkv
        .pad_with_zeros(1, 0, down * tall - height)?
        .pad_with_zeros(2, 0, across * wide - width)?
        .broadcast_add(bias)?
        .reshape(&[batch, down, tall, across, wide, columns][..])?
        .permute([0, 1, 3, 2, 4, 5])?
        .reshape((batch * down * across, tall * wide, columns))?;
    let part = |index: usize| windowed.narrow(D::Minus1, index * channels, channels);
    let mut queries = part(0)?.contiguous()?;
    if windows.pools_queries {
        let pairs = &[batch * down * across, tall / 2, 2, wide / 2, 2, channels][..];
        queries = queries.reshape(pairs)?.max(4)?.max(2)?.flatten(1, 2)?;
        (tall, wide) = (tall / 2, wide / 2);
    }
    // (windows, tokens, channels) to (windows, heads, tokens, head_dim).
    let split_heads = |xs: &Tensor| {
        let (count, tokens, _) = xs.dims3()?;
        let head_dim = channels / windows.heads;
        xs.reshape((count, tokens, windows.heads, head_dim))?.transpose(1, 2)?.contiguous()
    };
    let (queries, keys, values) =
        (split_heads(&queries)?, split_heads(&part(1)?)?, split_heads(&part(2)?)?);
    // Merge heads and windows, and drop the padding.
    let merged = softmax_attention(&queries, &keys, &values)?
        .transpose(1, 2)?
        .reshape(&[batch, down, across, tall, wide, channels][..])?
        .permute([0, 1, 3, 2, 4, 5])?
        .reshape((batch, down * tall, across * wide, channels))?;
    let pool = if windows.pools_queries { 2 } else { 1 };
    merged.narrow(1, 0, height / pool)?.narrow(2, 0, width / pool)?.contiguous()
}

/// `softmax(q kᵀ / √d) v`, with scale and softmax in `f32` for every dtype: a half format would
/// round the factor `1 / √d` itself, for `d = 72` by 0.15 %.
///
/// # Shapes
/// - `queries`: `(…, n, d)`, contiguous
/// - `keys`, `values`: `(…, m, d)`, contiguous
/// - result: `(…, n, d)`
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn softmax_attention(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let scores = matmul(&scaled(queries)?, &keys.t()?)?.to_dtype(DType::F32)?;
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    matmul(&weights.to_dtype(values.dtype())?, values)
}

/// Returns queries divided by `√d`, in their dtype. The product is in `f32`, because a half format
/// would round the factor itself: for `d = 72`, `bf16` makes every score 0.15 % too small.
fn scaled(queries: &Tensor) -> Result<Tensor> {
    let scale = (queries.dim(D::Minus1)? as f64).powf(-0.5);
    (queries.to_dtype(DType::F32)? * scale)?.to_dtype(queries.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        // (batch, side of the map, side of a window, heads, head_dim, pools)
        let cases = [
            (1, 16, Some(8), 1, 12, false),
            (2, 16, Some(4), 2, 24, true),
            (1, 10, Some(4), 3, 56, false),
            (1, 14, Some(6), 2, 72, true),
            (3, 9, None, 2, 96, false),
            (1, 8, Some(14), 4, 16, false),
            (1, 40, None, 1, 72, false),
        ];
        for (batch, map, side, heads, head_dim, pools_queries) in cases {
            let windows = Windows { heads, side, pools_queries };
            let columns = 3 * heads * head_dim;
            let qkv = random(0.0, 1.0, &[batch, map, map, columns])?;
            let bias = random(0.0, 0.5, &[columns])?;
            let ours = kernels::windowed_attention(&qkv, &bias, &windows)?;
            assert_close(&ours, &plain(&qkv, &bias, &windows)?, 2e-5)?;
        }
        Ok(())
    }

    #[test]
    fn the_factor_of_the_queries_is_not_rounded_in_half_precision() -> Result<()> {
        for head_dim in [64, 72, 112] {
            let queries = random(0.0, 1.0, &[512, head_dim])?.abs()?.to_dtype(DType::BF16)?;
            let sum = |xs: &Tensor| xs.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>();
            let factor = sum(&scaled(&queries)?)? / sum(&queries)?;
            let relative = factor * (head_dim as f64).sqrt() - 1.0;
            assert!(relative.abs() < 2e-4, "head_dim {head_dim}: {relative:e}");
        }
        Ok(())
    }

    #[test]
    fn scores_far_apart_do_not_overflow() -> Result<()> {
        let qkv = (random(0.0, 1.0, &[1, 8, 8, 3 * 16])? * 60.0)?;
        let bias = random(0.0, 0.0, &[3 * 16])?;
        let windows = Windows { heads: 1, side: Some(4), pools_queries: false };
        let ours = kernels::windowed_attention(&qkv, &bias, &windows)?;
        assert_close(&ours, &plain(&qkv, &bias, &windows)?, 2e-3)
    }
}
