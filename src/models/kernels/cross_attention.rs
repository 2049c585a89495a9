//! Attention between a few prompt tokens and the many tokens of an image, in both directions.
//! Blocks of the image's tokens are read once, and scores never leave the CPU cache.

use std::cell::OnceCell;

use candle_core::{D, Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::models::kernels::{
    self, Panels, RowMajor, Values, lanes, multiply, multiply_transposed, padded, vector,
};

/// The number of heads that [`update_image`] supports: that of every published network.
const HEADS: usize = 8;

/// Tokens of the image that are processed together.
const BLOCK: usize = 64;

/// The tokens of some images, and the image of each prompt.
#[derive(Debug, Clone)]
pub struct ImageTokens<'a> {
    /// `(images, tokens, width)`.
    pub tokens: &'a Tensor,
    /// `(tokens, width)`, added to keys and queries but not to values.
    pub position: &'a Tensor,
    /// Index of each prompt's image.
    pub image_of: &'a [usize],
    /// `(images, tokens, width)`: tokens plus position, once a plain form has needed them.
    pub(crate) positioned: OnceCell<Tensor>,
}

impl<'a> ImageTokens<'a> {
    /// Creates the tokens of the images of some prompts.
    pub fn new(tokens: &'a Tensor, position: &'a Tensor, image_of: &'a [usize]) -> Self {
        Self { tokens, position, image_of, positioned: OnceCell::new() }
    }
}

/// The keys and values that rows of queries attend to.
pub(crate) struct ImageKeyValues<'a> {
    /// `(images, tokens, width)`.
    pub(crate) keys: &'a Tensor,
    /// `(tokens, width)`, added to the keys.
    pub(crate) position: Option<&'a Tensor>,
    /// `(images, tokens, width)`.
    pub(crate) values: &'a Tensor,
    /// Index of the image that each prompt's rows attend to.
    pub(crate) image_of: &'a [usize],
}

/// The keys and values that an image attends to. Each token has one row per head, in order of
/// heads.
pub(crate) struct ImageUpdate<'a> {
    /// `(prompts, rows, width)`.
    pub(crate) keys: Tensor,
    /// `(prompts, rows)`, added to the scores.
    pub(crate) offsets: Tensor,
    /// `(prompts, rows, width)`.
    pub(crate) values: Tensor,
    /// `(width)`, added to the result of the attention.
    pub(crate) bias: &'a Tensor,
    /// Heads of a token. The softmax is over the tokens, separately for each head.
    pub(crate) heads: usize,
}

/// Weight, bias and epsilon of a layer norm; both tensors are `(width)`.
pub(crate) type NormTensors<'a> = (&'a Tensor, &'a Tensor, f32);

/// Returns true if [`attend`] supports the tensors: contiguous `f32` on the CPU, with a width that
/// is a multiple of the SIMD width.
pub(crate) fn supports_attention(queries: &Tensor, image: &ImageKeyValues<'_>) -> bool {
    let position = image.position.into_iter();
    has_whole_vectors(queries)
        && [queries, image.keys, image.values].into_iter().chain(position).all(kernels::accepts)
}

/// Returns true if [`update_image`] supports the tensors, as for [`supports_attention`], and the
/// number of heads.
pub(crate) fn supports_update(image: &ImageTokens<'_>, update: &ImageUpdate<'_>) -> bool {
    update.heads == HEADS
        && has_whole_vectors(&update.keys)
        && [&update.keys, image.tokens, image.position].into_iter().all(kernels::accepts)
}

fn has_whole_vectors(rows: &Tensor) -> bool {
    rows.dim(D::Minus1).is_ok_and(|width| width.is_multiple_of(lanes()))
}

/// `softmax(queries · (keys + position)ᵀ) · values` for queries `(prompts, rows, width)`.
pub(crate) fn attend(queries: &Tensor, image: &ImageKeyValues<'_>) -> Result<Tensor> {
    let (prompts, rows, width) = queries.dims3()?;
    let size = image.keys.dim(1)? * width;
    let (keys, values) = (Values::of(image.keys)?, Values::of(image.values)?);
    let position = image.position.map(Values::of).transpose()?;
    let all_queries = Values::of(queries)?;
    let mut attended = vec![0.0; prompts * rows * width];
    attended
        .par_chunks_exact_mut(rows * width)
        .zip(all_queries.par_chunks_exact(rows * width))
        .zip(image.image_of)
        .for_each(|((attended, queries), &image_index)| {
            Arch::new().dispatch(Attend {
                keys: &keys[image_index * size..][..size],
                position: position.as_deref(),
                values: &values[image_index * size..][..size],
                queries: Panels::pack_transposed(queries, width),
                rows,
                width,
                attended,
            });
        });
    Tensor::from_vec(attended, (prompts, rows, width), queries.device())
}

struct Attend<'a> {
    keys: &'a [f32],
    position: Option<&'a [f32]>,
    values: &'a [f32],
    queries: Panels,
    rows: usize,
    width: usize,
    /// `(rows, width)` of zeros.
    attended: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    /// Scores have one column per query, so that the softmax, which runs down the columns, handles
    /// a vector of queries at a time. The maxima grow from block to block, and the earlier sums and
    /// results are rescaled to them.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { keys, position, values, queries, rows, width, attended } = self;
        let columns = rows.next_multiple_of(S::F32_LANES);
        let mut positioned = vec![0.0; BLOCK * width];
        let mut scores = vec![0.0; BLOCK * columns];
        let mut maxima = vec![f32::NEG_INFINITY; columns];
        let mut sums = vec![0.0; columns];
        let mut scales = vec![0.0; columns];
        let blocks = keys.chunks(BLOCK * width).zip(values.chunks(BLOCK * width));
        for (block, (mut keys, values)) in blocks.enumerate() {
            if let Some(position) = position {
                let positioned = &mut positioned[..keys.len()];
                positioned.copy_from_slice(keys);
                vector::add(simd, positioned, &position[block * BLOCK * width..][..keys.len()]);
                keys = positioned;
            }
            let scores = &mut scores[..keys.len() / width * columns];
            multiply(simd, RowMajor::new(keys, width), &queries, scores);
            scales.copy_from_slice(&maxima);
            for row in scores.chunks_exact(columns) {
                vector::maximum(simd, &mut maxima, row);
            }
            exponential_of_difference(simd, &mut scales, &maxima);
            for row in scores.chunks_exact_mut(columns) {
                exponential_of_difference(simd, row, &maxima);
            }
            for (sum, scale) in sums.iter_mut().zip(&scales) {
                *sum *= scale;
            }
            for row in scores.chunks_exact(columns) {
                vector::add(simd, &mut sums, row);
            }
            for (row, &scale) in attended.chunks_exact_mut(width).zip(&scales) {
                if scale < 1.0 {
                    vector::scale(simd, row, scale);
                }
            }
            multiply_transposed(
                simd,
                RowMajor::new(scores, columns),
                RowMajor::new(values, width),
                attended,
            );
        }
        for (row, sum) in attended.chunks_exact_mut(width).zip(sums) {
            vector::scale(simd, row, 1.0 / sum);
        }
    }
}

/// to = e^(to − from); both lengths are a multiple of the SIMD width.
#[inline(always)]
fn exponential_of_difference<S: Simd>(simd: S, to: &mut [f32], from: &[f32]) {
    let (vectors, _) = S::as_mut_simd_f32s(to);
    let (others, _) = S::as_simd_f32s(from);
    for (vector, &other) in vectors.iter_mut().zip(others) {
        *vector = vector::exp(simd, simd.sub_f32s(*vector, other));
    }
}

/// `norm(tokens + softmax((tokens + position) · keysᵀ + offsets) · values + bias)`, as
/// `(prompts, tokens, width)`.
pub(crate) fn update_image(
    image: &ImageTokens<'_>,
    update: &ImageUpdate<'_>,
    norm: NormTensors<'_>,
) -> Result<Tensor> {
    let (prompts, rows, width) = update.keys.dims3()?;
    let tokens = image.tokens.dim(1)?;
    let (all_tokens, position) = (Values::of(image.tokens)?, Values::of(image.position)?);
    let (keys, offsets) = (Values::of(&update.keys)?, Values::of(&update.offsets)?);
    let (values, bias) = (Values::of(&update.values)?, Values::of(update.bias)?);
    let (norm_weight, norm_bias, eps) = norm;
    let (norm_weight, norm_bias) = (Values::of(norm_weight)?, Values::of(norm_bias)?);
    let mut result = vec![0.0; prompts * tokens * width];
    let tasks = result.par_chunks_exact_mut(tokens * width).enumerate().zip(image.image_of);
    tasks.for_each(|((prompt, result), &image_index)| {
        let part = |all: &[f32], size: usize| all[prompt * size..][..size].to_vec();
        let mut offsets = part(&offsets, rows);
        offsets.resize(padded(rows), 0.0);
        result.copy_from_slice(&all_tokens[image_index * tokens * width..][..tokens * width]);
        Arch::new().dispatch(UpdateImage {
            tokens: result,
            position: &position,
            keys: Panels::pack_transposed(&part(&keys, rows * width), width),
            offsets,
            values: Panels::pack(&part(&values, rows * width), width),
            rows,
            bias: &bias,
            norm: NormValues { weight: &norm_weight, bias: &norm_bias, eps },
        });
    });
    Tensor::from_vec(result, (prompts, tokens, width), update.keys.device())
}

/// Weight, bias and epsilon of a layer norm.
struct NormValues<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

struct UpdateImage<'a> {
    tokens: &'a mut [f32],
    position: &'a [f32],
    keys: Panels,
    offsets: Vec<f32>,
    values: Panels,
    rows: usize,
    bias: &'a [f32],
    norm: NormValues<'a>,
}

impl WithSimd for UpdateImage<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tokens, position, keys, offsets, values, rows, bias, norm } = self;
        let width = bias.len();
        let mut queries = vec![0.0; BLOCK * width];
        let mut scores = vec![0.0; BLOCK * offsets.len()];
        let mut attended = vec![0.0; BLOCK * width];
        let blocks = tokens.chunks_mut(BLOCK * width).zip(position.chunks(BLOCK * width));
        for (tokens, position) in blocks {
            let queries = &mut queries[..tokens.len()];
            queries.copy_from_slice(tokens);
            vector::add(simd, queries, position);
            let scores = &mut scores[..tokens.len() / width * offsets.len()];
            multiply(simd, RowMajor::new(queries, width), &keys, scores);
            for row in scores.chunks_exact_mut(offsets.len()) {
                vector::add(simd, row, &offsets);
                softmax_by_head(simd, &mut row[..rows]);
            }
            let attended = &mut attended[..tokens.len()];
            multiply(simd, RowMajor::new(scores, offsets.len()), &values, attended);
            let rows_of_tokens = tokens.chunks_exact_mut(width);
            for (token, attended) in rows_of_tokens.zip(attended.chunks_exact(width)) {
                vector::add(simd, token, attended);
                vector::add(simd, token, bias);
                vector::normalise(simd, token, norm.weight, norm.bias, norm.eps);
            }
        }
    }
}

/// Applies the softmax over the tokens, separately for each of the eight heads that alternate in a
/// row.
#[inline(always)]
fn softmax_by_head<S: Simd>(simd: S, row: &mut [f32]) {
    let (tokens, _) = row.as_chunks_mut::<HEADS>();
    let mut maxima = [f32::NEG_INFINITY; HEADS];
    for token in &*tokens {
        for head in 0..HEADS {
            maxima[head] = maxima[head].max(token[head]);
        }
    }
    for token in &mut *tokens {
        for head in 0..HEADS {
            token[head] -= maxima[head];
        }
    }
    let (vectors, rest) = S::as_mut_simd_f32s(tokens.as_flattened_mut());
    for vector in vectors {
        *vector = vector::exp(simd, *vector);
    }
    if !rest.is_empty() {
        simd.partial_store_f32s(rest, vector::exp(simd, simd.partial_load_f32s(rest)));
    }
    let mut sums = [0.0; HEADS];
    for token in &*tokens {
        for head in 0..HEADS {
            sums[head] += token[head];
        }
    }
    let scales = sums.map(|sum: f32| 1.0 / sum);
    for token in tokens {
        for head in 0..HEADS {
            token[head] *= scales[head];
        }
    }
}
