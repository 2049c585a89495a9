//! The whole network for images: encode once, then ask about points, boxes and masks
//! (`SAM2ImagePredictor`).

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::config::Config;
use super::image_encoder::ImageEncoder;
use super::load::select_rows;
use super::mask_decoder::{Answers, MaskDecoder};
use super::prompt_encoder::{Label, PromptEncoder};
use super::two_way::{Exchange, ImageSide};
use super::upscale::FineFeatures;
use crate::models::device::forward;

/// A SAM 2 or 2.1 of any size.
#[derive(Debug, Clone)]
pub struct Sam2 {
    config: Config,
    image_encoder: ImageEncoder,
    /// `(1, 1, d_model)`: stands for the memory of earlier frames, which an image does not have.
    no_memory: Tensor,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
    /// `(side², d_model)`: constant, made when the weights are opened.
    position: Tensor,
    dtype: DType,
    device: Device,
}

/// What the network keeps of its images.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// `(images, side², d_model)`.
    pub tokens: Tensor,
    /// The finer maps.
    pub fine: FineFeatures,
}

impl Encoded {
    /// The images of several, in this order.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn join(several: &[Self]) -> Result<Self> {
        if let [one] = several {
            return Ok(one.clone());
        }
        let join = |part: fn(&Self) -> &Tensor| {
            Tensor::cat(&several.iter().map(part).collect::<Vec<_>>(), 0)
        };
        Ok(Self {
            tokens: join(|encoded| &encoded.tokens)?,
            fine: FineFeatures {
                children: join(|encoded| &encoded.fine.children)?,
                grandchildren: join(|encoded| &encoded.fine.grandchildren)?,
            },
        })
    }
}

/// Points of some prompts, all of the same number.
#[derive(Debug, Clone)]
pub struct Prompts<'a> {
    /// For each prompt the image that it is about.
    pub image_of: &'a [usize],
    /// `(prompts, points, 2)` f32: x and y in pixels of the model's square input.
    pub points: &'a Tensor,
    /// What each point means, row by row.
    pub labels: &'a [Label],
    /// `(prompts, 4 · side, 4 · side)` f32: logits of a mask to start from.
    pub masks: Option<&'a Tensor>,
}

impl Sam2 {
    /// Builds the network from tensors by their original names.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
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

    /// Encodes images, `(images, 3, size, size)` f32, normalised.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn encode(&self, images: &Tensor) -> Result<Encoded> {
        let images = images.to_device(&self.device)?;
        forward(&self.device, || {
            let maps = self.image_encoder.forward(&images.to_dtype(self.dtype)?)?;
            let [finest, half] = self.mask_decoder.narrowed(&maps[0], &maps[1])?;
            Ok(Encoded {
                tokens: maps[2].flatten(1, 2)?.broadcast_add(&self.no_memory)?,
                fine: FineFeatures::new(&half, &finest)?,
            })
        })
    }

    /// Answers prompts about encoded images, without drawing masks yet. `observe` sees tokens and image
    /// after each layer of the transformer.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn answer(
        &self,
        encoded: &Encoded,
        prompts: &Prompts<'_>,
        observe: impl FnMut(&Exchange),
    ) -> Result<Answers> {
        let sparse = if prompts.points.dim(1)? == 0 {
            Tensor::zeros(
                (prompts.image_of.len(), 0, self.config.d_model),
                self.dtype,
                &self.device,
            )?
        } else {
            self.prompt_encoder.sparse(&prompts.points.to_device(&self.device)?, prompts.labels)?
        };
        let (tokens, own);
        let image_of = match prompts.masks {
            None => {
                tokens = encoded.tokens.broadcast_add(&self.prompt_encoder.without_mask()?)?;
                prompts.image_of
            }
            Some(masks) => {
                let dense = self.prompt_encoder.of_masks(&masks.to_device(&self.device)?)?;
                tokens = (select_rows(&encoded.tokens, prompts.image_of)? + dense)?;
                own = (0..prompts.image_of.len()).collect::<Vec<_>>();
                &own
            }
        };
        let side = ImageSide { tokens: &tokens, position: &self.position, image_of };
        forward(&self.device, || self.mask_decoder.answer(&sparse, &side, observe))
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trunk and neck.
    pub fn image_encoder(&self) -> &ImageEncoder {
        &self.image_encoder
    }

    /// What embeds prompts.
    pub fn prompt_encoder(&self) -> &PromptEncoder {
        &self.prompt_encoder
    }

    /// What draws masks.
    pub fn mask_decoder(&self) -> &MaskDecoder {
        &self.mask_decoder
    }

    /// Position of the image's tokens: `(side², d_model)`, row by row.
    pub fn position(&self) -> &Tensor {
        &self.position
    }

    /// Where the network runs.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
