//! The whole network.

use candle_core::{DType, Device, Result, Tensor};

use super::config::{Config, Generation};
use super::load::Tensors;
use super::processor::normalise;
use super::projector::Projector;
use super::qwen2::Decoder;
use super::siglip::VisionModel;
use crate::models::device::forward;

/// An mPLUG-Owl3 of any generation.
#[derive(Debug, Clone)]
pub struct MplugOwl3 {
    config: Config,
    generation: Generation,
    vision: VisionModel,
    projector: Projector,
    decoder: Decoder,
    dtype: DType,
    device: Device,
}

impl MplugOwl3 {
    /// Builds the network from tensors by the checkpoint's names.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &Config, generation: Generation, tensors: &Tensors<'_>) -> Result<Self> {
        let vision = &config.vision_config;
        // The last layer's output is never looked at.
        let layers = vision.num_hidden_layers - 1;
        Ok(Self {
            vision: VisionModel::new(vision, layers, &tensors.pp("vision_model"))?,
            projector: Projector::new(config, generation, &tensors.pp("vision2text_model"))?,
            decoder: Decoder::new(config, generation, &tensors.pp("language_model"))?,
            config: config.clone(),
            generation,
            dtype: tensors.vb().dtype(),
            device: tensors.vb().device().clone(),
        })
    }

    /// Views, `(views, 3, size, size)` u8 or already in −1..=1, to what hyper layers are shown:
    /// `(views, tokens, hidden)`.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn encode(&self, views: &Tensor) -> Result<Tensor> {
        let views = views.to_device(&self.device)?;
        forward(&self.device, || {
            let views = if views.dtype() == DType::U8 { normalise(&views)? } else { views };
            self.projector.forward(&self.vision.forward(&views.to_dtype(self.dtype)?)?)
        })
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which arithmetic it has.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The vision tower.
    pub fn vision(&self) -> &VisionModel {
        &self.vision
    }

    /// The language model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Where the network runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The dtype that it runs in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}
