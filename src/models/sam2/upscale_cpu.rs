//! [`Upscale::masks`] for `f32` on the CPU: a block of tokens goes all the way to its pixels, so that
//! the enlarged maps, four and eight times the size of the tokens, are never written.

use candle_core::{D, Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::upscale::{FineFeatures, Upscale};
use crate::models::kernels::{self, Panels, RowMajor, Values, lanes, multiply, vector};

/// Tokens that are enlarged together.
const BLOCK: usize = 32;
/// Pixels of the masks under one token.
const PIXELS: usize = 16;

/// Whether this op takes the tensors: contiguous `f32` on the CPU, of a width in whole vectors.
pub(super) fn takes(tokens: &Tensor, fine: &FineFeatures, vectors: &Tensor) -> bool {
    let fits = tokens.dim(D::Minus1).is_ok_and(|width| width.is_multiple_of(2 * lanes()));
    fits && [tokens, &fine.children, &fine.grandchildren, vectors].into_iter().all(kernels::accepts)
}

pub(super) fn masks(
    upscale: &Upscale,
    tokens: &Tensor,
    (fine, image_of): (&FineFeatures, &[usize]),
    vectors: &Tensor,
) -> Result<Tensor> {
    let (prompts, count, width) = tokens.dims3()?;
    let (_, masks, pixel_width) = vectors.dims3()?;
    let side = count.isqrt();
    let (norm_weight, norm_bias, eps) = upscale.norm.parts();
    let (norm_weight, norm_bias) = (Values::of(norm_weight)?, Values::of(norm_bias)?);
    let (first_bias, second_bias) =
        (Values::of(upscale.first.bias())?, Values::of(upscale.second.bias())?);
    let enlarge = Enlarge {
        first: Panels::pack_transposed(&Values::of(upscale.first.weight())?, width),
        first_bias: &first_bias,
        norm: (&norm_weight, &norm_bias, eps),
        second: Panels::pack_transposed(&Values::of(upscale.second.weight())?, width / 4),
        second_bias: &second_bias,
        width,
        side,
    };
    let (values, vectors) = (Values::of(tokens)?, Values::of(vectors)?);
    let (children, grandchildren) = (Values::of(&fine.children)?, Values::of(&fine.grandchildren)?);
    let mut result = vec![0.0; prompts * masks * count * PIXELS];
    let tasks = result.par_chunks_exact_mut(masks * count * PIXELS).enumerate().zip(image_of);
    tasks.for_each(|((prompt, masks_of_prompt), &image)| {
        Arch::new().dispatch(Prompt {
            enlarge: &enlarge,
            tokens: &values[prompt * count * width..][..count * width],
            children: &children[image * count * width..][..count * width],
            grandchildren: &grandchildren[image * count * 2 * width..][..count * 2 * width],
            vectors: Panels::pack_transposed(
                &vectors[prompt * masks * pixel_width..][..masks * pixel_width],
                pixel_width,
            ),
            masks: masks_of_prompt,
        });
    });
    Tensor::from_vec(result, (prompts, masks, 4 * side, 4 * side), tokens.device())
}

/// What is the same for all prompts.
struct Enlarge<'a> {
    first: Panels,
    first_bias: &'a [f32],
    norm: (&'a [f32], &'a [f32], f32),
    second: Panels,
    second_bias: &'a [f32],
    width: usize,
    side: usize,
}

struct Prompt<'a> {
    enlarge: &'a Enlarge<'a>,
    tokens: &'a [f32],
    children: &'a [f32],
    grandchildren: &'a [f32],
    vectors: Panels,
    /// One map after the other.
    masks: &'a mut [f32],
}

impl WithSimd for Prompt<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { enlarge, tokens, children, grandchildren, vectors, masks } = self;
        let width = enlarge.width;
        let area = tokens.len() / width * PIXELS;
        let mut enlarged = vec![0.0; BLOCK * width];
        let mut pixels = vec![0.0; BLOCK * 2 * width];
        let mut logits = vec![0.0; BLOCK * PIXELS * vectors.padded_columns()];
        let blocks = tokens
            .chunks(BLOCK * width)
            .zip(children.chunks(BLOCK * width))
            .zip(grandchildren.chunks(BLOCK * 2 * width));
        for (block, ((tokens, children), grandchildren)) in blocks.enumerate() {
            let enlarged = &mut enlarged[..tokens.len()];
            multiply(simd, RowMajor::new(tokens, width), &enlarge.first, enlarged);
            vector::add(simd, enlarged, children);
            for token in enlarged.chunks_exact_mut(width) {
                vector::add(simd, token, enlarge.first_bias);
                for child in token.chunks_exact_mut(width / 4) {
                    let (weight, bias, eps) = enlarge.norm;
                    vector::normalise(simd, child, weight, bias, eps);
                }
            }
            vector::gelu_each(simd, enlarged);
            let pixels = &mut pixels[..2 * tokens.len()];
            multiply(simd, RowMajor::new(enlarged, width / 4), &enlarge.second, pixels);
            for child in pixels.chunks_exact_mut(width / 2) {
                vector::add(simd, child, enlarge.second_bias);
            }
            vector::add(simd, pixels, grandchildren);
            vector::gelu_each(simd, pixels);
            let count = tokens.len() / width * PIXELS;
            let logits = &mut logits[..count * vectors.padded_columns()];
            multiply(simd, RowMajor::new(pixels, width / 8), &vectors, logits);
            for (index, logits) in logits.chunks_exact(vectors.padded_columns()).enumerate() {
                let place = place_of(block * BLOCK * PIXELS + index, enlarge.side);
                for (mask, logit) in masks.chunks_exact_mut(area).zip(logits) {
                    mask[place] = *logit;
                }
            }
        }
    }
}

/// Where a pixel stands in its mask, row by row.
fn place_of(index: usize, side: usize) -> usize {
    let (token, within) = (index / PIXELS, index % PIXELS);
    let (row, column) = (token / side, token % side);
    // Bits of `within`: row and column among the children, row and column among theirs.
    let y = 4 * row + (within >> 3 & 1) * 2 + (within >> 1 & 1);
    let x = 4 * column + (within >> 2 & 1) * 2 + (within & 1);
    y * 4 * side + x
}
