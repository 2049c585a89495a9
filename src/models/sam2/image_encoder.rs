//! The image encoder, which runs once per image: trunk and neck
//! (`sam2/modeling/backbones/image_encoder.py`, `SAM2ImagePredictor.set_image`).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::sam2::config::Config;
use crate::models::sam2::hiera::Hiera;
use crate::models::sam2::neck::Neck;

/// The trunk and the neck.
#[derive(Debug, Clone)]
pub struct ImageEncoder {
    trunk: Hiera,
    neck: Neck,
}

impl ImageEncoder {
    /// Loads the weights below `image_encoder`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            trunk: Hiera::new(config, &vb.pp("trunk"))?,
            neck: Neck::new(config, &vb.pp("neck"))?,
        })
    }

    /// `(images, 3, size, size)` to the neck's maps `(images, side, side, d_model)`, the finest
    /// first.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
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
