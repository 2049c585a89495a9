//! The prompt encoder: points, boxes and masks as tokens (`sam2/modeling/sam/prompt_encoder.py`).

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::layers::{LayerNorm, Linear, add_bias, gelu};
use crate::models::ops::{TensorOps, cat, upload, zeros};
use crate::models::sam2::config::Config;
use crate::models::sam2::load::{layer_norm, pointwise};
use crate::models::sam2::position::FourierPosition;

const NORM_EPS: f32 = 1e-6;
/// Side of the patches of the first two convolutions.
const PATCH: usize = 2;

/// The meaning of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PointLabel {
    /// Padding of a row with fewer points.
    Padding,
    /// Not part of the object.
    Background,
    /// Part of the object.
    Foreground,
    /// The top left corner of a box.
    BoxStart,
    /// The bottom right corner of a box.
    BoxEnd,
}

impl PointLabel {
    /// Returns the row in the table of learned embeddings.
    fn row(self) -> u32 {
        match self {
            Self::Background => 0,
            Self::Foreground => 1,
            Self::BoxStart => 2,
            Self::BoxEnd => 3,
            Self::Padding => 4,
        }
    }
}

/// The prompt encoder.
#[derive(Debug, Clone)]
pub struct PromptEncoder {
    position: FourierPosition,
    /// `(5, d_model)` f32: background, foreground, two corners, padding.
    labels: Tensor,
    no_mask: Tensor,
    downscale: MaskDownscale,
    image_size: usize,
    embedding_side: usize,
    dtype: DType,
}

impl PromptEncoder {
    /// Loads the weights below `sam_prompt_encoder`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let dim = config.d_model;
        let vb32 = vb.to_dtype(DType::F32);
        let matrix = "pe_layer.positional_encoding_gaussian_matrix";
        let mut labels = Vec::new();
        for index in 0..4 {
            labels.push(vb32.get((1, dim), &format!("point_embeddings.{index}.weight"))?);
        }
        labels.push(vb32.get((1, dim), "not_a_point_embed.weight")?);
        Ok(Self {
            position: FourierPosition::new(vb32.get((2, dim / 2), matrix)?),
            labels: cat(&labels.iter().collect::<Vec<_>>(), 0)?,
            no_mask: vb.get((1, dim), "no_mask_embed.weight")?,
            downscale: MaskDownscale::new(config, &vb.pp("mask_downscaling"))?,
            image_size: config.image_size,
            embedding_side: config.embedding_side(),
            dtype: vb.dtype(),
        })
    }

    /// Embeds the points of each prompt, `(prompts, points, 2)` f32 in pixels of the model's input,
    /// and their labels, row by row. Returns `(prompts, points + 1, d_model)`: like the reference,
    /// it appends one padding.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn sparse(&self, points: &Tensor, labels: &[PointLabel]) -> Result<Tensor> {
        let (prompts, count, _) = points.dims3()?;
        let padding = zeros((prompts, 1, 2), DType::F32, points.device())?;
        // Half a pixel moves a point to its pixel's centre.
        let size = self.image_size as f64;
        let centred =
            cat(&[points, &padding], 1)?.affine_of(1.0, 0.5)?.affine_of(size.recip(), 0.0)?;
        let padded: Vec<PointLabel> = labels
            .chunks(count)
            .flat_map(|labels| labels.iter().copied().chain([PointLabel::Padding]))
            .collect();
        let factors: Vec<f32> =
            padded.iter().map(|&label| f32::from(u8::from(label != PointLabel::Padding))).collect();
        let is_point = upload(factors, (prompts, count + 1, 1), points.device())?;
        let rows: Vec<u32> = padded.into_iter().map(PointLabel::row).collect();
        let indices = upload(rows, prompts * (count + 1), points.device())?;
        let shape = (prompts, count + 1, self.labels.dim(D::Minus1)?);
        let meaning = self.labels.entries(&indices, 0)?.reshaped(shape)?;
        let position = self.position.forward(&centred)?.times_repeated(&is_point)?;
        position.plus(&meaning)?.cast(self.dtype)
    }

    /// Returns the term that is added to the image's tokens without a mask prompt:
    /// `(1, 1, d_model)`.
    ///
    /// # Errors
    /// Fails if a tensor operation fails.
    pub fn without_mask(&self) -> Result<Tensor> {
        self.no_mask.unsqueeze(0)
    }

    /// Embeds mask prompts, logits `(prompts, 4 · side, 4 · side)` for an embedding of `side`
    /// tokens. Returns the term that is added to the image's tokens: `(prompts, side², d_model)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn of_masks(&self, logits: &Tensor) -> Result<Tensor> {
        let map = logits.cast(self.dtype)?.unsqueeze(3)?;
        self.downscale.forward(&map)?.flatten(1, 2)
    }

    /// Returns the position embedding of the image's tokens, `(side², d_model)`, row by row.
    ///
    /// # Errors
    /// Fails if the device fails.
    pub fn dense_position(&self) -> Result<Tensor> {
        self.position.of_map(self.embedding_side)?.cast(self.dtype)
    }
}

/// Reduces a mask fourfold. Its convolutions do not overlap, so they are products of patches.
#[derive(Debug, Clone)]
struct MaskDownscale {
    first: Linear,
    first_norm: LayerNorm,
    second: Linear,
    second_norm: LayerNorm,
    last: Linear,
}

impl MaskDownscale {
    fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let channels = config.mask_channels;
        Ok(Self {
            first: patchwise(1, channels / 4, &vb.pp(0))?,
            first_norm: layer_norm(channels / 4, NORM_EPS, &vb.pp(1))?,
            second: patchwise(channels / 4, channels, &vb.pp(3))?,
            second_norm: layer_norm(channels, NORM_EPS, &vb.pp(4))?,
            last: pointwise(channels, config.d_model, &vb.pp(6))?,
        })
    }

    fn forward(&self, map: &Tensor) -> Result<Tensor> {
        let mut xs = add_bias(self.first.product(&patches(map)?)?, self.first.bias())?;
        xs = gelu(&self.first_norm.forward(&xs)?)?;
        xs = add_bias(self.second.product(&patches(&xs)?)?, self.second.bias())?;
        xs = gelu(&self.second_norm.forward(&xs)?)?;
        self.last.forward(&xs)
    }
}

/// Loads a convolution of 2 × 2 with stride 2 as a linear layer over patches.
fn patchwise(width_in: usize, width_out: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get((width_out, width_in, PATCH, PATCH), "weight")?;
    let by_patch = weight.permute((0, 2, 3, 1))?.reshaped((width_out, PATCH * PATCH * width_in))?;
    Ok(Linear::new(by_patch, vb.get(width_out, "bias")?))
}

/// `(batch, height, width, channels)` to `(batch, height/2, width/2, 4 · channels)`.
fn patches(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    map.reshaped(&[batch, height / PATCH, PATCH, width / PATCH, PATCH, channels])?
        .permute([0, 1, 3, 2, 4, 5])?
        .reshaped((batch, height / PATCH, width / PATCH, PATCH * PATCH * channels))
}
