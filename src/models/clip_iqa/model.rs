//! The whole network.

use candle_core::{DType, Device, Result};
use candle_nn::VarBuilder;
use image::RgbImage;

use crate::models::clip_iqa::config::{Config, VisionConfig};
use crate::models::clip_iqa::processor::{SizeLimits, normalise};
use crate::models::clip_iqa::resnet::{ModifiedResNet, SIDE_MIN};
use crate::models::clip_iqa::text::TextTower;
use crate::models::clip_iqa::vit::VisionTransformer;
use crate::models::device::{forward, to_cpu};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{TensorOps, to_device};

/// A CLIP: an image tower and a text tower whose features are comparable.
#[derive(Debug, Clone)]
pub struct Clip {
    /// The image tower.
    pub image: ImageTower,
    /// The text tower.
    pub text: TextTower,
}

/// The image tower.
#[derive(Debug, Clone)]
pub struct ImageTower {
    network: ImageNetwork,
    device: Device,
}

#[derive(Debug, Clone)]
enum ImageNetwork {
    ResNet(ModifiedResNet),
    Vit(VisionTransformer),
}

impl Clip {
    /// Builds the network from tensors with the checkpoint's names. The text tower is in `f32`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        // Folded before they are rounded.
        let single = Tensors::new(vb.to_dtype(DType::F32), None);
        let embed_dim = config.embed_dim;
        let network = match &config.vision {
            VisionConfig::ResNet(vision) => {
                let tensors = single.pp("visual");
                let tower = ModifiedResNet::new(vision, embed_dim, vb.dtype(), &tensors)?;
                ImageNetwork::ResNet(tower)
            }
            VisionConfig::Vit(vision) => {
                let tensors = Tensors::new(vb.clone(), None);
                ImageNetwork::Vit(VisionTransformer::new(vision, embed_dim, &tensors)?)
            }
        };
        Ok(Self {
            image: ImageTower { network, device: vb.device().clone() },
            text: TextTower::new(&config.text, embed_dim, &config.vision, &single)?,
        })
    }
}

impl ImageTower {
    /// Returns the sizes of images that the network reads.
    pub fn size_limits(&self, area_max: u32) -> SizeLimits {
        match &self.network {
            ImageNetwork::ResNet(_) => SizeLimits::Free { side_min: SIDE_MIN, area_max },
            ImageNetwork::Vit(vit) => {
                let side = u32::try_from(vit.side()).unwrap_or(u32::MAX);
                SizeLimits::Square { side, area_max }
            }
        }
    }

    /// Returns the feature of an image of such a size, not normalised.
    ///
    /// # Errors
    /// Fails on an image of another size, and on an error of the device.
    pub fn feature(&self, rgb: &RgbImage) -> Result<Vec<f32>> {
        let pixels = to_device(&normalise(rgb)?, &self.device)?;
        let feature = forward(&self.device, || match &self.network {
            ImageNetwork::ResNet(tower) => tower.forward(&pixels),
            ImageNetwork::Vit(tower) => tower.forward(&pixels),
        })?;
        to_cpu(&feature.reshaped(feature.elem_count())?)?.to_vec1()
    }

    /// Returns the ResNet, if the tower is one.
    pub fn resnet(&self) -> Option<&ModifiedResNet> {
        match &self.network {
            ImageNetwork::ResNet(tower) => Some(tower),
            ImageNetwork::Vit(_) => None,
        }
    }

    /// Returns the ViT, if the tower is one.
    pub fn vit(&self) -> Option<&VisionTransformer> {
        match &self.network {
            ImageNetwork::Vit(tower) => Some(tower),
            ImageNetwork::ResNet(_) => None,
        }
    }

    /// Returns the device that the network runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
