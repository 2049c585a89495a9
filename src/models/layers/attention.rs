//! Self-attention on a map of tokens, in windows or over the whole map: the inner part of a Hiera
//! block, between its two linear layers.

use candle_core::{D, DType, Result, Tensor};

use super::attention_cpu;
use super::cpu::takes;
use super::matmul::matmul;

/// How the tokens of a map attend to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Attention heads; they divide the channels.
    pub heads: usize,
    /// Side of the square windows in tokens; none: every token sees the whole map.
    pub side: Option<usize>,
    /// Whether queries are pooled 2 × 2 (by maximum), which halves the map.
    pub pools_queries: bool,
}

/// `softmax(q kᵀ / √head_dim) v` for each window and head, heads merged again.
///
/// `qkv (batch, height, width, 3 · channels)` is the product without its `bias (3 · channels)`, rows
/// of `[q | k | v]`, each `[heads, head_dim]`. Gives `(batch, height', width', channels)`; pooled
/// queries halve both sides. A map that is no whole number of windows is padded at the bottom and the
/// right with tokens of zeros *before* the bias: they take part in the softmax, as in the reference.
/// Windows are even where queries are pooled.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn windowed_attention(qkv: &Tensor, bias: &Tensor, windows: &Windows) -> Result<Tensor> {
    if takes(qkv) {
        attention_cpu::windowed_attention(qkv, bias, windows)
    } else {
        plain(qkv, bias, windows)
    }
}

fn plain(qkv: &Tensor, bias: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, height, width, channels) = qkv.dims4()?;
    let channels = channels / 3;
    let (tall, wide) = windows.side.map_or((height, width), |side| (side, side));
    let (down, across) = (height.div_ceil(tall), width.div_ceil(wide));
    let padded = qkv
        .pad_with_zeros(1, 0, down * tall - height)?
        .pad_with_zeros(2, 0, across * wide - width)?
        .broadcast_add(bias)?;
    let windowed = padded
        .reshape(&[batch, down, tall, across, wide, 3 * channels][..])?
        .permute([0, 1, 3, 2, 4, 5])?
        .reshape((batch * down * across, tall * wide, 3 * channels))?;
    let part = |index: usize| windowed.narrow(D::Minus1, index * channels, channels);
    let mut queries = part(0)?.contiguous()?;
    let (mut tall, mut wide) = (tall, wide);
    if windows.pools_queries {
        let pairs = &[batch * down * across, tall / 2, 2, wide / 2, 2, channels][..];
        queries = queries.reshape(pairs)?.max(4)?.max(2)?.flatten(1, 2)?;
        (tall, wide) = (tall / 2, wide / 2);
    }
    let split = |xs: &Tensor| {
        let (count, tokens, _) = xs.dims3()?;
        let head_dim = channels / windows.heads;
        xs.reshape((count, tokens, windows.heads, head_dim))?.transpose(1, 2)?.contiguous()
    };
    let merged = softmax_attention(&split(&queries)?, &split(&part(1)?)?, &split(&part(2)?)?)?
        .transpose(1, 2)?
        .reshape(&[batch, down, across, tall, wide, channels][..])?
        .permute([0, 1, 3, 2, 4, 5])?
        .reshape((batch, down * tall, across * wide, channels))?;
    let halving = if windows.pools_queries { 2 } else { 1 };
    merged.narrow(1, 0, height / halving)?.narrow(2, 0, width / halving)?.contiguous()
}

/// `softmax(q kᵀ / √d) v` on `q (…, n, d)`, `k (…, m, d)`, `v (…, m, d)`, each contiguous, with the
/// softmax in `f32` whatever the dtype. Gives `(…, n, d)`.
///
/// # Errors
/// What candle says of shapes, dtypes and devices.
pub fn softmax_attention(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let scale = (queries.dim(D::Minus1)? as f64).powf(-0.5);
    let scores = matmul(&(queries * scale)?, &keys.t()?)?.to_dtype(DType::F32)?;
    let shares = candle_nn::ops::softmax_last_dim(&scores)?;
    matmul(&shares.to_dtype(values.dtype())?, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    #[test]
    fn the_op_equals_the_plain_form() -> Result<()> {
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
            let shape = (batch, map, map, 3 * heads * head_dim);
            let qkv = random(0.0, 1.0, &[shape.0, shape.1, shape.2, shape.3])?;
            let bias = random(0.0, 0.5, &[shape.3])?;
            let ours = attention_cpu::windowed_attention(&qkv, &bias, &windows)?;
            assert_close(&ours, &plain(&qkv, &bias, &windows)?, 2e-5)?;
        }
        Ok(())
    }

    #[test]
    fn scores_far_apart_do_not_overflow() -> Result<()> {
        let qkv = (random(0.0, 1.0, &[1, 8, 8, 3 * 16])? * 60.0)?;
        let bias = random(0.0, 0.0, &[3 * 16])?;
        let windows = Windows { heads: 1, side: Some(4), pools_queries: false };
        let ours = attention_cpu::windowed_attention(&qkv, &bias, &windows)?;
        assert_close(&ours, &plain(&qkv, &bias, &windows)?, 2e-3)
    }
}
