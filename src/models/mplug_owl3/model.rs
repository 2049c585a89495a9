//! The whole network.

use candle_core::{DType, Device, Result, Tensor};

use crate::models::device::forward;
use crate::models::mplug_owl3::config::{Config, Generation};
use crate::models::mplug_owl3::named_tensors::Tensors;
use crate::models::mplug_owl3::processor::normalise;
use crate::models::mplug_owl3::projector::Projector;
use crate::models::mplug_owl3::qwen2::Decoder;
use crate::models::mplug_owl3::siglip::VisionModel;
use crate::models::ops::{TensorOps, to_device};

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
    /// Builds the network from tensors with the checkpoint's names.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, generation: Generation, tensors: &Tensors<'_>) -> Result<Self> {
        let vision = &config.vision_config;
        // The output of the last layer is never used.
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

    /// Encodes views for the hyper layers.
    ///
    /// # Shapes
    /// - `views`: `(views, 3, size, size)`, u8 or already in −1..=1
    /// - result: `(views, tokens, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn encode(&self, views: &Tensor) -> Result<Tensor> {
        let samples = to_device(views, &self.device)?;
        forward(&self.device, || {
            let normal = if samples.dtype() == DType::U8 { normalise(&samples)? } else { samples };
            self.projector.forward(&self.vision.forward(&normal.cast(self.dtype)?)?)
        })
    }

    /// Returns the shape of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the generation, which sets the arithmetic.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the vision tower.
    pub fn vision(&self) -> &VisionModel {
        &self.vision
    }

    /// Returns the language model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the device that the network runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the dtype that the network runs in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}
