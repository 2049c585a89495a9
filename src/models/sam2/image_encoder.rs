//! Once per image: trunk, neck, and what the decoder wants of them
//! (`sam2/modeling/backbones/image_encoder.py`, `SAM2ImagePredictor.set_image`).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::Config;
use super::hiera::Hiera;
use super::neck::Neck;

/// Trunk and neck.
#[derive(Debug, Clone)]
pub struct ImageEncoder {
    trunk: Hiera,
    neck: Neck,
}

impl ImageEncoder {
    /// Opens the weights below `image_encoder`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            trunk: Hiera::new(config, &vb.pp("trunk"))?,
            neck: Neck::new(config, &vb.pp("neck"))?,
        })
    }

    /// `(images, 3, size, size)` to the neck's maps `(images, side, side, d_model)`, the finest first.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn forward(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        self.neck.forward(&self.trunk.forward(images)?)
    }

    /// The trunk.
    pub fn trunk(&self) -> &Hiera {
        &self.trunk
    }

    /// The neck.
    pub fn neck(&self) -> &Neck {
        &self.neck
    }
}
