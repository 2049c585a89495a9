//! The mask decoder's upscaling and the product with the masks' vectors. Each block of tokens is
//! processed up to its pixels, so the upscaled maps are never written to memory. They are four and
//! eight times the size of the tokens.

use candle_core::{D, Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::models::kernels::{self, Panels, RowMajor, Values, lanes, multiply, vector};

/// Tokens that are upscaled together.
const BLOCK: usize = 32;
/// Pixels of a mask that belong to one token.
const PIXELS: usize = 16;

/// The inputs of some prompts, and the image of each.
pub(crate) struct UpscaleInputs<'a> {
    /// `(prompts, side², width)`.
    pub(crate) tokens: &'a Tensor,
    /// `(images, side², 4 · width/4)`.
    pub(crate) children: &'a Tensor,
    /// `(images, side², 16 · width/8)`.
    pub(crate) grandchildren: &'a Tensor,
    /// Index of each prompt's image.
    pub(crate) image_of: &'a [usize],
    /// The masks' vectors, `(prompts, masks, width/8)`.
    pub(crate) vectors: &'a Tensor,
}

/// The parameters of both convolutions and of the norm between them.
pub(crate) struct UpscaleParameters<'a> {
    /// `(4 · width/4, width)`.
    pub(crate) first_weight: &'a Tensor,
    /// `(4 · width/4)`.
    pub(crate) first_bias: &'a Tensor,
    /// `(width/4)`.
    pub(crate) norm_weight: &'a Tensor,
    /// `(width/4)`.
    pub(crate) norm_bias: &'a Tensor,
    pub(crate) eps: f32,
    /// `(4 · width/8, width/4)`.
    pub(crate) second_weight: &'a Tensor,
    /// `(4 · width/8)`.
    pub(crate) second_bias: &'a Tensor,
}

/// Returns true if [`masks`] supports the tensors: contiguous `f32` on the CPU, with a width that
/// is a multiple of twice the SIMD width.
pub(crate) fn supports(inputs: &UpscaleInputs<'_>) -> bool {
    let UpscaleInputs { tokens, children, grandchildren, vectors, .. } = inputs;
    let has_whole_vectors =
        tokens.dim(D::Minus1).is_ok_and(|width| width.is_multiple_of(2 * lanes()));
    has_whole_vectors
        && [tokens, children, grandchildren, vectors]
            .into_iter()
            .all(|tensor| kernels::accepts(tensor))
}

/// Returns mask logits `(prompts, masks, 4 · side, 4 · side)`.
pub(crate) fn masks(
    inputs: &UpscaleInputs<'_>,
    parameters: &UpscaleParameters<'_>,
) -> Result<Tensor> {
    let (prompts, count, width) = inputs.tokens.dims3()?;
    let (_, masks, pixel_width) = inputs.vectors.dims3()?;
    let side = count.isqrt();
    let (norm_weight, norm_bias) =
        (Values::of(parameters.norm_weight)?, Values::of(parameters.norm_bias)?);
    let (first_bias, second_bias) =
        (Values::of(parameters.first_bias)?, Values::of(parameters.second_bias)?);
    let packed = PackedParameters {
        first: Panels::pack_transposed(&Values::of(parameters.first_weight)?, width),
        first_bias: &first_bias,
        norm_weight: &norm_weight,
        norm_bias: &norm_bias,
        eps: parameters.eps,
        second: Panels::pack_transposed(&Values::of(parameters.second_weight)?, width / 4),
        second_bias: &second_bias,
        width,
        side,
    };
    let (tokens, vectors) = (Values::of(inputs.tokens)?, Values::of(inputs.vectors)?);
    let (children, grandchildren) =
        (Values::of(inputs.children)?, Values::of(inputs.grandchildren)?);
    let mut result = vec![0.0; prompts * masks * count * PIXELS];
    let tasks = result.par_chunks_exact_mut(masks * count * PIXELS).enumerate();
    tasks.zip(inputs.image_of).for_each(|((prompt, masks_of_prompt), &image_index)| {
        Arch::new().dispatch(UpscalePrompt {
            parameters: &packed,
            tokens: &tokens[prompt * count * width..][..count * width],
            children: &children[image_index * count * width..][..count * width],
            grandchildren: &grandchildren[image_index * count * 2 * width..][..count * 2 * width],
            vectors: Panels::pack_transposed(
                &vectors[prompt * masks * pixel_width..][..masks * pixel_width],
                pixel_width,
            ),
            masks: masks_of_prompt,
        });
    });
    Tensor::from_vec(result, (prompts, masks, 4 * side, 4 * side), inputs.tokens.device())
}

/// The parameters as all prompts use them.
struct PackedParameters<'a> {
    first: Panels,
    first_bias: &'a [f32],
    norm_weight: &'a [f32],
    norm_bias: &'a [f32],
    eps: f32,
    second: Panels,
    second_bias: &'a [f32],
    width: usize,
    side: usize,
}

struct UpscalePrompt<'a> {
    parameters: &'a PackedParameters<'a>,
    tokens: &'a [f32],
    children: &'a [f32],
    grandchildren: &'a [f32],
    vectors: Panels,
    /// The maps of all masks, one after the other.
    masks: &'a mut [f32],
}

impl WithSimd for UpscalePrompt<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { parameters, tokens, children, grandchildren, vectors, masks } = self;
        let width = parameters.width;
        let area = tokens.len() / width * PIXELS;
        let mut upscaled = vec![0.0; BLOCK * width];
        let mut pixels = vec![0.0; BLOCK * 2 * width];
        let mut logits = vec![0.0; BLOCK * PIXELS * vectors.padded_columns()];
        let blocks = tokens
            .chunks(BLOCK * width)
            .zip(children.chunks(BLOCK * width))
            .zip(grandchildren.chunks(BLOCK * 2 * width));
        for (block, ((tokens, children), grandchildren)) in blocks.enumerate() {
            let upscaled = &mut upscaled[..tokens.len()];
            multiply(simd, RowMajor::new(tokens, width), &parameters.first, upscaled);
            vector::add(simd, upscaled, children);
            for token in upscaled.chunks_exact_mut(width) {
                vector::add(simd, token, parameters.first_bias);
                for child in token.chunks_exact_mut(width / 4) {
                    let PackedParameters { norm_weight, norm_bias, eps, .. } = parameters;
                    vector::normalise(simd, child, norm_weight, norm_bias, *eps);
                }
            }
            vector::gelu_each(simd, upscaled);
            let pixels = &mut pixels[..2 * tokens.len()];
            multiply(simd, RowMajor::new(upscaled, width / 4), &parameters.second, pixels);
            for child in pixels.chunks_exact_mut(width / 2) {
                vector::add(simd, child, parameters.second_bias);
            }
            vector::add(simd, pixels, grandchildren);
            vector::gelu_each(simd, pixels);
            let count = tokens.len() / width * PIXELS;
            let logits = &mut logits[..count * vectors.padded_columns()];
            multiply(simd, RowMajor::new(pixels, width / 8), &vectors, logits);
            for (index, logits) in logits.chunks_exact(vectors.padded_columns()).enumerate() {
                let position = position_in_mask(block * BLOCK * PIXELS + index, parameters.side);
                for (mask, logit) in masks.chunks_exact_mut(area).zip(logits) {
                    mask[position] = *logit;
                }
            }
        }
    }
}

/// Returns the row-major position of a pixel in its mask. Pixels are counted token by token.
fn position_in_mask(index: usize, side: usize) -> usize {
    let (token, in_token) = (index / PIXELS, index % PIXELS);
    let (row, column) = (token / side, token % side);
    // Bits of `in_token`: row and column of the child, row and column of the grandchild.
    let y = 4 * row + (in_token >> 3 & 1) * 2 + (in_token >> 1 & 1);
    let x = 4 * column + (in_token >> 2 & 1) * 2 + (in_token & 1);
    y * 4 * side + x
}
