//! The two attentions between tokens and image for `f32` on the CPU: blocks of the image's tokens are
//! read once, and scores never leave the cache.

use candle_core::{D, Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cross_attention::{ImageTokens, Sight, Update};
use crate::models::kernels::{
    self, Panels, RowMajor, Values, lanes, multiply, multiply_transposed, padded, vector,
};

/// Heads that the softmax of an update is written for: those of every published network.
pub(super) const HEADS: usize = 8;

/// Tokens of the image that are looked at together.
const BLOCK: usize = 64;

/// Whether these ops take the tensors: contiguous `f32` on the CPU, of a width in whole vectors.
pub(super) fn takes(rows: &Tensor, image: &ImageTokens<'_>) -> bool {
    fits(rows) && [rows, image.tokens, image.position].into_iter().all(kernels::accepts)
}

pub(super) fn takes_sight(rows: &Tensor, sight: &Sight<'_>) -> bool {
    let position = sight.position.into_iter();
    fits(rows) && [rows, sight.keys, sight.values].into_iter().chain(position).all(kernels::accepts)
}

fn fits(rows: &Tensor) -> bool {
    rows.dim(D::Minus1).is_ok_and(|width| width.is_multiple_of(lanes()))
}

pub(super) fn gathered(queries: &Tensor, sight: &Sight<'_>) -> Result<Tensor> {
    let (prompts, rows, width) = queries.dims3()?;
    let size = sight.keys.dim(1)? * width;
    let (keys, values) = (Values::of(sight.keys)?, Values::of(sight.values)?);
    let position = sight.position.map(Values::of).transpose()?;
    let all_queries = Values::of(queries)?;
    let mut found = vec![0.0; prompts * rows * width];
    let tasks = found.par_chunks_exact_mut(rows * width);
    let tasks = tasks.zip(all_queries.par_chunks_exact(rows * width)).zip(sight.image_of);
    tasks.for_each(|((found, queries), &picture)| {
        Arch::new().dispatch(Gather {
            keys: &keys[picture * size..][..size],
            position: position.as_deref(),
            values: &values[picture * size..][..size],
            queries: Panels::pack_transposed(queries, width),
            rows,
            width,
            found,
        });
    });
    Tensor::from_vec(found, (prompts, rows, width), queries.device())
}

struct Gather<'a> {
    keys: &'a [f32],
    position: Option<&'a [f32]>,
    values: &'a [f32],
    queries: Panels,
    rows: usize,
    width: usize,
    /// `(rows, width)` of zeros.
    found: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    /// Scores stand with the queries as columns, so that the softmax, which runs down the columns,
    /// takes a vector of queries at a time. Its maxima move from block to block; what was found
    /// before is scaled along.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { keys, position, values, queries, rows, width, found } = self;
        let columns = rows.next_multiple_of(S::F32_LANES);
        let mut placed = vec![0.0; BLOCK * width];
        let mut scores = vec![0.0; BLOCK * columns];
        let mut maxima = vec![f32::NEG_INFINITY; columns];
        let mut sums = vec![0.0; columns];
        let mut scales = vec![0.0; columns];
        let blocks = keys.chunks(BLOCK * width).zip(values.chunks(BLOCK * width));
        for (block, (mut keys, values)) in blocks.enumerate() {
            if let Some(position) = position {
                let placed = &mut placed[..keys.len()];
                placed.copy_from_slice(keys);
                vector::add(simd, placed, &position[block * BLOCK * width..][..keys.len()]);
                keys = placed;
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
            for (row, &scale) in found.chunks_exact_mut(width).zip(&scales) {
                if scale < 1.0 {
                    vector::scale(simd, row, scale);
                }
            }
            let (scores, values) = (RowMajor::new(scores, columns), RowMajor::new(values, width));
            multiply_transposed(simd, scores, values, found);
        }
        for (row, sum) in found.chunks_exact_mut(width).zip(sums) {
            vector::scale(simd, row, 1.0 / sum);
        }
    }
}

/// to = e^(to − from), both in whole vectors.
#[inline(always)]
fn exponential_of_difference<S: Simd>(simd: S, to: &mut [f32], from: &[f32]) {
    let (vectors, _) = S::as_mut_simd_f32s(to);
    let (others, _) = S::as_simd_f32s(from);
    for (vector, &other) in vectors.iter_mut().zip(others) {
        *vector = vector::exp(simd, simd.sub_f32s(*vector, other));
    }
}

pub(super) fn updated(image: &ImageTokens<'_>, update: &Update<'_>) -> Result<Tensor> {
    let (prompts, rows, width) = update.keys.dims3()?;
    let tokens = image.tokens.dim(1)?;
    let (values, position) = (Values::of(image.tokens)?, Values::of(image.position)?);
    let (keys, offsets) = (Values::of(&update.keys)?, Values::of(&update.offsets)?);
    let (found, bias) = (Values::of(&update.values)?, Values::of(update.bias)?);
    let (norm_weight, norm_bias, eps) = update.norm.parts();
    let norm = (&*Values::of(norm_weight)?, &*Values::of(norm_bias)?, eps);
    let mut result = vec![0.0; prompts * tokens * width];
    let tasks = result.par_chunks_exact_mut(tokens * width).enumerate().zip(image.image_of);
    tasks.for_each(|((prompt, result), &picture)| {
        let part = |all: &[f32], size: usize| all[prompt * size..][..size].to_vec();
        let mut offsets = part(&offsets, rows);
        offsets.resize(padded(rows), 0.0);
        result.copy_from_slice(&values[picture * tokens * width..][..tokens * width]);
        Arch::new().dispatch(TakeIn {
            tokens: result,
            position: &position,
            keys: Panels::pack_transposed(&part(&keys, rows * width), width),
            offsets,
            values: Panels::pack(&part(&found, rows * width), width),
            rows,
            bias: &bias,
            norm,
        });
    });
    Tensor::from_vec(result, (prompts, tokens, width), update.keys.device())
}

struct TakeIn<'a> {
    tokens: &'a mut [f32],
    position: &'a [f32],
    keys: Panels,
    offsets: Vec<f32>,
    values: Panels,
    rows: usize,
    bias: &'a [f32],
    norm: (&'a [f32], &'a [f32], f32),
}

impl WithSimd for TakeIn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tokens, position, keys, offsets, values, rows, bias, norm } = self;
        let width = bias.len();
        let mut queries = vec![0.0; BLOCK * width];
        let mut scores = vec![0.0; BLOCK * offsets.len()];
        let mut found = vec![0.0; BLOCK * width];
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
            let found = &mut found[..tokens.len()];
            multiply(simd, RowMajor::new(scores, offsets.len()), &values, found);
            for (token, found) in tokens.chunks_exact_mut(width).zip(found.chunks_exact(width)) {
                vector::add(simd, token, found);
                vector::add(simd, token, bias);
                vector::normalise(simd, token, norm.0, norm.1, norm.2);
            }
        }
    }
}

/// The softmax over the tokens for each of the eight heads that alternate in a row.
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
