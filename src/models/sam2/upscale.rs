//! From the image's tokens to masks: two transposed convolutions, each followed by adding a finer
//! map of the neck, and the product with each mask's vector (`MaskDecoder.output_upscaling`).
//!
//! The convolutions do not overlap (2 × 2, stride 2), so each is a linear layer from a token to its
//! four children. Children are stored with their parent, `(tokens, 2, 2, channels)`; only the
//! finished masks are rearranged into rows and columns.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::kernels::upscale as kernel;
use crate::models::kernels::upscale::{UpscaleInputs, UpscaleParameters};
use crate::models::layers::{LayerNorm, Linear, gelu};
use crate::models::ops::{TensorOps, cat, matmul};
use crate::models::sam2::config::Config;
use crate::models::sam2::load::{layer_norm, select_images};

const NORM_EPS: f32 = 1e-6;

/// The finer maps of the neck, with each token's children stored together.
#[derive(Debug, Clone)]
pub struct FineFeatures {
    /// `(images, side², 4 · d_model/4)`: 2 × 2 children of each token.
    pub children: Tensor,
    /// `(images, side², 16 · d_model/8)`: 2 × 2 children of each child.
    pub grandchildren: Tensor,
}

impl FineFeatures {
    /// Rearranges maps `(images, 2 · side, 2 · side, d_model/4)` and
    /// `(images, 4 · side, 4 · side, d_model/8)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes.
    pub fn new(half: &Tensor, quarter: &Tensor) -> Result<Self> {
        Ok(Self { children: by_parent(half, 1)?, grandchildren: by_parent(quarter, 2)? })
    }
}

/// `(images, side · 2^levels, …, channels)` to `(images, side², 4^levels · channels)`.
fn by_parent(map: &Tensor, levels: usize) -> Result<Tensor> {
    let (images, height, width, channels) = map.dims4()?;
    let (down, across) = (height >> levels, width >> levels);
    let pairs = vec![2; levels];
    let shape = [&[images, down], &pairs[..], &[across], &pairs[..], &[channels]].concat();
    // The row axis and the column axis of each level become neighbours.
    let row = |level: usize| 2 + level;
    let column = |level: usize| 3 + levels + level;
    let axes = (0..levels).flat_map(|level| [row(level), column(level)]);
    let order: Vec<usize> =
        [0, 1, 2 + levels].into_iter().chain(axes).chain([shape.len() - 1]).collect();
    let children = channels << (2 * levels);
    map.reshaped(shape)?.permute(order)?.reshaped((images, down * across, children))
}

/// Both convolutions and the norm between them.
#[derive(Debug, Clone)]
pub struct Upscale {
    /// `(4 · d_model/4, d_model)`.
    first: Linear,
    norm: LayerNorm,
    /// `(4 · d_model/8, d_model/4)`.
    second: Linear,
}

impl Upscale {
    /// Loads the weights below `sam_mask_decoder.output_upscaling`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let dim = config.d_model;
        Ok(Self {
            first: transposed_convolution(dim, dim / 4, &vb.pp(0))?,
            norm: layer_norm(dim / 4, NORM_EPS, &vb.pp(1))?,
            second: transposed_convolution(dim / 4, dim / 8, &vb.pp(3))?,
        })
    }

    /// Mask logits `(prompts, masks, 4 · side, 4 · side)` in `f32` from tokens
    /// `(prompts, side², d_model)` and the masks' vectors `(prompts, masks, d_model/8)`. `image_of`
    /// has the image of each prompt.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn masks(
        &self,
        tokens: &Tensor,
        fine: &FineFeatures,
        image_of: &[usize],
        vectors: &Tensor,
    ) -> Result<Tensor> {
        let FineFeatures { children, grandchildren } = fine;
        let inputs = UpscaleInputs { tokens, children, grandchildren, image_of, vectors };
        if kernel::supports(&inputs) {
            return kernel::masks(&inputs, &self.parameters());
        }
        let children = self.children(tokens, &fine.children, image_of)?;
        let pixels = self.pixels(&self.activated(&children)?, &fine.grandchildren, image_of)?;
        let columns = vectors.cast(DType::F32)?.transpose(1, 2)?;
        in_rows(&matmul(&pixels.cast(DType::F32)?, &columns)?)
    }

    fn parameters(&self) -> UpscaleParameters<'_> {
        let (norm_weight, norm_bias, eps) = self.norm.parts();
        UpscaleParameters {
            first_weight: self.first.weight(),
            first_bias: self.first.bias(),
            norm_weight,
            norm_bias,
            eps,
            second_weight: self.second.weight(),
            second_bias: self.second.bias(),
        }
    }

    /// The first convolution plus each prompt's finer map: `(prompts, side² · 4, d_model/4)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn children(&self, tokens: &Tensor, finer: &Tensor, image_of: &[usize]) -> Result<Tensor> {
        let (prompts, count, dim) = tokens.dims3()?;
        add_maps(&self.first, tokens, finer, image_of)?.reshaped((prompts, count * 4, dim / 4))
    }

    /// Norm and GELU.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn activated(&self, children: &Tensor) -> Result<Tensor> {
        gelu(&self.norm.forward(children)?)
    }

    /// The second convolution plus each prompt's finest map, then GELU:
    /// `(prompts, side² · 16, d_model/8)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn pixels(
        &self,
        activated: &Tensor,
        finest: &Tensor,
        image_of: &[usize],
    ) -> Result<Tensor> {
        let (prompts, count, dim) = activated.dims3()?;
        let sum = add_maps(&self.second, activated, finest, image_of)?;
        gelu(&sum)?.reshaped((prompts, count * 4, dim / 2))
    }
}

/// Applies a convolution to `xs (prompts, …)` and adds the map of each prompt's image, from
/// `maps (images, tokens, channels)`: `(prompts, tokens, channels)`. The bias is added to the maps,
/// which are fewer.
fn add_maps(
    convolution: &Linear,
    xs: &Tensor,
    maps: &Tensor,
    image_of: &[usize],
) -> Result<Tensor> {
    let (images, tokens, channels) = maps.dims3()?;
    let width = convolution.bias().dim(0)?;
    let by_child = maps.reshaped((images, tokens * channels / width, width))?;
    let maps = by_child.plus_repeated(convolution.bias())?.reshaped(maps.shape())?;
    let product = convolution.product(xs)?.reshaped((image_of.len(), tokens, channels))?;
    product.plus_repeated(&select_images(&maps, image_of)?)
}

/// `(prompts, side² · 16, masks)`, children by child, to `(prompts, masks, 4 · side, 4 · side)`.
///
/// # Errors
/// Fails on mismatched shapes.
pub fn in_rows(pixels: &Tensor) -> Result<Tensor> {
    let (prompts, count, masks) = pixels.dims3()?;
    let side = (count / 16).isqrt();
    pixels
        .reshaped(vec![prompts, side, side, 2, 2, 2, 2, masks])?
        .permute([0, 7, 1, 3, 5, 2, 4, 6])?
        .reshaped((prompts, masks, 4 * side, 4 * side))
}

/// Loads a transposed convolution of 2 × 2 with stride 2 as a linear layer to four children. The
/// stored weight is `(in, out, 2, 2)`.
fn transposed_convolution(
    width_in: usize,
    width_out: usize,
    vb: &VarBuilder<'_>,
) -> Result<Linear> {
    let weight = vb.get((width_in, width_out, 2, 2), "weight")?;
    let by_child = weight.permute((2, 3, 1, 0))?.reshaped((4 * width_out, width_in))?;
    let bias = vb.get(width_out, "bias")?;
    Ok(Linear::new(by_child, cat(&[&bias; 4], 0)?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;

    use super::*;
    use crate::models::kernels::testing;
    use crate::models::sam2::config::Size;

    fn random(shape: &[usize]) -> Tensor {
        testing::random(0.0, 0.3, shape).unwrap()
    }

    fn upscale(dim: usize, dtype: DType) -> Upscale {
        let config = Config { d_model: dim, ..Config::of_size(Size::Tiny) };
        let tensors = [
            ("0.weight", vec![dim, dim / 4, 2, 2]),
            ("0.bias", vec![dim / 4]),
            ("1.weight", vec![dim / 4]),
            ("1.bias", vec![dim / 4]),
            ("3.weight", vec![dim / 4, dim / 8, 2, 2]),
            ("3.bias", vec![dim / 8]),
        ];
        let tensors: HashMap<String, Tensor> =
            tensors.into_iter().map(|(name, shape)| (name.to_owned(), random(&shape))).collect();
        Upscale::new(&config, &VarBuilder::from_tensors(tensors, dtype, &Device::Cpu)).unwrap()
    }

    #[test]
    fn the_kernel_equals_the_plain_form() {
        for (dim, side, image_of, masks) in [(32, 4, vec![0], 4), (64, 6, vec![1, 0, 1], 3)] {
            let upscale = upscale(dim, DType::F32);
            let half = random(&[2, 2 * side, 2 * side, dim / 4]);
            let quarter = random(&[2, 4 * side, 4 * side, dim / 8]);
            let fine = FineFeatures::new(&half, &quarter).unwrap();
            let tokens = random(&[image_of.len(), side * side, dim]);
            let vectors = random(&[image_of.len(), masks, dim / 8]);
            let inputs = UpscaleInputs {
                tokens: &tokens,
                children: &fine.children,
                grandchildren: &fine.grandchildren,
                image_of: &image_of,
                vectors: &vectors,
            };
            assert!(kernel::supports(&inputs));
            let ours = upscale.masks(&tokens, &fine, &image_of, &vectors).unwrap();

            let children = upscale.children(&tokens, &fine.children, &image_of).unwrap();
            let activated = upscale.activated(&children).unwrap();
            let pixels = upscale.pixels(&activated, &fine.grandchildren, &image_of).unwrap();
            let columns = vectors.transpose(1, 2).unwrap();
            let expected = in_rows(&pixels.matmul(&columns).unwrap()).unwrap();
            testing::assert_close(&ours, &expected, 1e-5).unwrap();
        }
    }
}
