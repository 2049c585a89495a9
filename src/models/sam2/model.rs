//! The whole network for images: encodes an image once and decodes any number of prompts about it
//! (`SAM2ImagePredictor`).

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::device::forward;
use crate::models::kernels::cross_attention::ImageTokens;
use crate::models::ops::{TensorOps, cat, to_device};
use crate::models::sam2::config::Config;
use crate::models::sam2::image_encoder::ImageEncoder;
use crate::models::sam2::load::select_rows;
use crate::models::sam2::mask_decoder::{DecodedPrompts, MaskDecoder};
use crate::models::sam2::prompt_encoder::{PointLabel, PromptEncoder};
use crate::models::sam2::two_way::TwoWayState;
use crate::models::sam2::upscale::FineFeatures;

/// A SAM 2 or 2.1 of any size.
#[derive(Debug, Clone)]
pub struct Sam2 {
    config: Config,
    image_encoder: ImageEncoder,
    /// `(1, 1, d_model)`: replaces the memory of earlier frames, which an image does not have.
    no_memory: Tensor,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
    /// `(side², d_model)`: constant, computed when the weights are loaded.
    position: Tensor,
    dtype: DType,
    device: Device,
}

/// The encoded form of some images.
#[derive(Debug, Clone)]
pub struct EncodedImages {
    /// `(images, side², d_model)`.
    pub tokens: Tensor,
    /// The finer maps.
    pub fine: FineFeatures,
}

impl EncodedImages {
    /// Joins several into one, in this order.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn join(several: &[Self]) -> Result<Self> {
        if let [one] = several {
            return Ok(one.clone());
        }
        let join =
            |part: fn(&Self) -> &Tensor| cat(&several.iter().map(part).collect::<Vec<_>>(), 0);
        Ok(Self {
            tokens: join(|encoded| &encoded.tokens)?,
            fine: FineFeatures {
                children: join(|encoded| &encoded.fine.children)?,
                grandchildren: join(|encoded| &encoded.fine.grandchildren)?,
            },
        })
    }
}

/// A batch of prompts with the same number of points each.
#[derive(Debug, Clone)]
pub struct Prompts<'a> {
    /// Index of each prompt's image.
    pub image_of: &'a [usize],
    /// `(prompts, points, 2)` f32: x and y in pixels of the model's square input.
    pub points: &'a Tensor,
    /// Label of each point, row by row.
    pub labels: &'a [PointLabel],
    /// `(prompts, 4 · side, 4 · side)` f32: logits of a mask prompt.
    pub masks: Option<&'a Tensor>,
}

impl Sam2 {
    /// Builds the network from tensors under their original names.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let prompt_encoder = PromptEncoder::new(config, &vb.pp("sam_prompt_encoder"))?;
        Ok(Self {
            image_encoder: ImageEncoder::new(config, &vb.pp("image_encoder"))?,
            no_memory: vb.get((1, 1, config.d_model), "no_mem_embed")?,
            mask_decoder: MaskDecoder::new(config, &vb.pp("sam_mask_decoder"))?,
            position: prompt_encoder.dense_position()?,
            prompt_encoder,
            config: config.clone(),
            dtype: vb.dtype(),
            device: vb.device().clone(),
        })
    }

    /// Encodes normalised images `(images, 3, size, size)` f32.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn encode(&self, images: &Tensor) -> Result<EncodedImages> {
        let images = to_device(images, &self.device)?;
        forward(&self.device, || {
            let maps = self.image_encoder.forward(&images.cast(self.dtype)?)?;
            let [finest, half] = self.mask_decoder.narrowed(&maps[0], &maps[1])?;
            Ok(EncodedImages {
                tokens: maps[2].flatten(1, 2)?.plus_repeated(&self.no_memory)?,
                fine: FineFeatures::new(&half, &finest)?,
            })
        })
    }

    /// Decodes prompts about encoded images, without drawing their masks. `observe` receives tokens
    /// and image after each layer of the transformer.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn decode(
        &self,
        encoded: &EncodedImages,
        prompts: &Prompts<'_>,
        observe: impl FnMut(&TwoWayState),
    ) -> Result<DecodedPrompts> {
        let has_points = prompts.points.dim(1)? > 0;
        let sparse = has_points
            .then(|| {
                let points = to_device(prompts.points, &self.device)?;
                self.prompt_encoder.sparse(&points, prompts.labels)
            })
            .transpose()?;
        let (tokens, own_image);
        let image_of = match prompts.masks {
            None => {
                tokens = encoded.tokens.plus_repeated(&self.prompt_encoder.without_mask()?)?;
                prompts.image_of
            }
            Some(masks) => {
                let dense = self.prompt_encoder.of_masks(&to_device(masks, &self.device)?)?;
                tokens = select_rows(&encoded.tokens, prompts.image_of)?.plus(&dense)?;
                own_image = (0..prompts.image_of.len()).collect::<Vec<_>>();
                &own_image
            }
        };
        let image = ImageTokens::new(&tokens, &self.position, image_of);
        forward(&self.device, || self.mask_decoder.decode(sparse.as_ref(), &image, observe))
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The image encoder.
    pub fn image_encoder(&self) -> &ImageEncoder {
        &self.image_encoder
    }

    /// The prompt encoder.
    pub fn prompt_encoder(&self) -> &PromptEncoder {
        &self.prompt_encoder
    }

    /// The mask decoder.
    pub fn mask_decoder(&self) -> &MaskDecoder {
        &self.mask_decoder
    }

    /// Position embedding of the image's tokens, `(side², d_model)`, row by row.
    pub fn position(&self) -> &Tensor {
        &self.position
    }

    /// The dtype of the network.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device of the network.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
