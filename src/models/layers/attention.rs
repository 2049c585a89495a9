//! Self-attention on a map of tokens, in windows or over the whole map: the inner part of a Hiera
//! block, between its two linear layers.

use candle_core::{D, DType, Result, Tensor};

use crate::models::kernels::{self, Windows};
use crate::models::layers::pool::max_pool_2x2;
use crate::models::ops::{ALIGNMENT, TensorOps, cat, matmul, softmax_last_dim, upload, zeros};

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
    let (heads, channels) = (windows.heads, columns / 3);
    let (mut tall, mut wide) = windows.side.map_or((height, width), |side| (side, side));
    let (down, across) = (height.div_ceil(tall), width.div_ceil(wide));
    let padded = pad_end(&pad_end(qkv, 1, down * tall)?, 2, across * wide)?;
    // One copy splits the map into windows and heads: (3, windows, heads, tokens, head_dim).
    let head_dim = channels / heads;
    let split = padded
        .plus_repeated(bias)?
        .reshaped(vec![batch, down, tall, across, wide, 3, heads, head_dim])?
        .permute([5, 0, 1, 3, 6, 2, 4, 7])?
        .dense()?;
    let count = batch * down * across;
    let part =
        |index: usize| split.narrow(0, index, 1)?.reshaped((count, heads, tall * wide, head_dim));
    let (mut queries, keys, values) = (part(0)?, part(1)?, part(2)?);
    if windows.pools_queries {
        let map = queries.reshaped((count * heads, tall, wide, head_dim))?;
        (tall, wide) = (tall / 2, wide / 2);
        queries = max_pool_2x2(&map)?.reshaped((count, heads, tall * wide, head_dim))?;
    }
    // Merge heads and windows, and drop the padding.
    let merged = softmax_attention(&queries, &keys, &values)?
        .reshaped(vec![batch, down, across, heads, tall, wide, head_dim])?
        .permute([0, 1, 4, 2, 5, 3, 6])?
        .reshaped((batch, down * tall, across * wide, channels))?;
    let pool = if windows.pools_queries { 2 } else { 1 };
    merged.narrow(1, 0, height / pool)?.narrow(2, 0, width / pool)?.dense()
}

/// Appends zeros to a dimension until it has `size` entries.
fn pad_end(xs: &Tensor, dim: usize, size: usize) -> Result<Tensor> {
    let mut shape = xs.dims().to_vec();
    if shape[dim] == size {
        return Ok(xs.clone());
    }
    shape[dim] = size - shape[dim];
    cat(&[xs, &zeros(shape, xs.dtype(), xs.device())?], dim)
}

/// `softmax(q kᵀ / √d) v`, with scale and softmax in `f32` for every dtype: a half format would
/// round the factor `1 / √d` itself, for `d = 72` by 0.15 %.
///
/// On a GPU the scores are in memory, and each step is a launch. A fused kernel, such as flash
/// attention, belongs here: it takes the same tensors, whose strides need not be contiguous.
///
/// # Shapes
/// - `queries`: `(…, n, d)`, contiguous
/// - `keys`, `values`: `(…, m, d)`, contiguous
/// - result: `(…, n, d)`
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn softmax_attention(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let queries = scaled(queries)?;
    let rows = keys.dim(keys.rank() - 2)?;
    let is_half = matches!(keys.dtype(), DType::BF16 | DType::F16);
    if !is_half || rows < ALIGNED_FROM || rows.is_multiple_of(ALIGNMENT) {
        return attend(&queries, keys, values);
    }
    let aligned = AlignedRows::new(&queries, keys, values)?;
    attend(&aligned.queries, &aligned.keys, &aligned.values)
}

fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let scores = matmul(queries, &keys.t()?)?.cast(DType::F32)?;
    let weights = softmax_last_dim(&scores)?;
    matmul(&weights.cast(values.dtype())?, values)
}

/// Returns queries divided by `√d`, in their dtype. The product is in `f32`, because a half format
/// would round the factor itself: for `d = 72`, `bf16` makes every score 0.15 % too small.
fn scaled(queries: &Tensor) -> Result<Tensor> {
    let scale = (queries.dim(D::Minus1)? as f64).powf(-0.5);
    queries.cast(DType::F32)?.affine_of(scale, 0.0)?.cast(queries.dtype())
}

/// The fewest keys for which aligning them is worth its copies.
const ALIGNED_FROM: usize = 32;
/// The score of a row of padding: far below every other one, and within the range of `f16`.
const PADDING_SCORE: f32 = -30_000.0;

/// Queries, keys and values with padding, so that the number of keys is a multiple of
/// [`ALIGNMENT`]. The result of the attention is the same.
///
/// Queries get a channel of ones. Keys get a channel that is 0, and [`PADDING_SCORE`] in the rows
/// of padding, so that their weights are 0. A mask would cost a pass over all scores instead.
struct AlignedRows {
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
}

impl AlignedRows {
    fn new(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Self> {
        let [row_dim, channel_dim] = [keys.rank() - 2, keys.rank() - 1];
        let (rows, channels) = (keys.dim(row_dim)?, keys.dim(channel_dim)?);
        let padding = rows.next_multiple_of(ALIGNMENT) - rows;
        // Whole groups of channels, so that their number stays aligned, too.
        let ones = channel_of(1.0, ALIGNMENT, 0, queries, (channel_dim, ALIGNMENT))?;
        let mut shape = keys.dims().to_vec();
        shape[channel_dim] = ALIGNMENT;
        let nothing = zeros(shape, keys.dtype(), keys.device())?;
        let wide_keys = cat(&[keys, &nothing], channel_dim)?;
        let of_padding = channel_of(
            PADDING_SCORE,
            channels + ALIGNMENT,
            channels,
            &wide_keys,
            (row_dim, padding),
        )?;
        let mut shape = values.dims().to_vec();
        shape[row_dim] = padding;
        let no_values = zeros(shape, values.dtype(), values.device())?;
        Ok(Self {
            queries: cat(&[queries, &ones], channel_dim)?,
            keys: cat(&[&wide_keys, &of_padding], row_dim)?,
            values: cat(&[values, &no_values], row_dim)?,
        })
    }
}

/// Returns rows of `channels` that are 0 but for `value` in one channel. They have the shape of
/// `like`, except for the size of one dimension.
fn channel_of(
    value: f32,
    channels: usize,
    channel: usize,
    like: &Tensor,
    (dim, size): (usize, usize),
) -> Result<Tensor> {
    let mut row = vec![0.0; channels];
    row[channel] = value;
    let mut shape = like.dims().to_vec();
    shape[dim] = size;
    upload(row, channels, like.device())?.cast(like.dtype())?.broadcast_as(shape)?.dense()
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
    fn padded_keys_change_no_result() -> Result<()> {
        for dtype in [DType::BF16, DType::F16] {
            for (rows, head_dim) in [(49, 72), (196, 24), (729, 16)] {
                let [queries, keys, values] = [(2, 7), (3, rows), (4, rows)]
                    .map(|(seed, rows)| random(0.1, 1.5, &[2, seed, rows, head_dim]));
                let same = |xs: Result<Tensor>| xs?.narrow(1, 0, 2)?.contiguous()?.to_dtype(dtype);
                let (queries, keys, values) = (same(queries)?, same(keys)?, same(values)?);
                let aligned = AlignedRows::new(&queries, &keys, &values)?;
                assert_eq!(aligned.keys.dims(), [2, 2, rows.next_multiple_of(8), head_dim + 8]);
                let ours = attend(&aligned.queries, &aligned.keys, &aligned.values)?;
                let plain = attend(&queries, &keys, &values)?;
                // Only the order of the sums differs.
                let wide = |xs: Tensor| xs.to_dtype(DType::F32);
                assert_close(&wide(ours)?, &wide(plain)?, 2e-2)?;
            }
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
