//! From a path to the tensors of a SAM 2 network, whichever naming and format the file has.

use std::path::Path;

use candle_core::{DType, Device, Result};
use candle_nn::VarBuilder;

use super::config::{Config, Size};
use super::names::{is_ignored, on_the_hub};
use crate::models::weights::{Stored, Weights, WeightsError};

/// The two releases; their image paths differ in the weights only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// SAM 2, July 2024.
    V2_0,
    /// SAM 2.1, September 2024.
    V2_1,
}

impl Version {
    /// `2` or `2.1`, as in the names of the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2_0 => "2",
            Self::V2_1 => "2.1",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    Original,
    Hub,
}

/// A file of SAM 2's weights, recognised.
#[derive(Debug)]
pub struct Checkpoint {
    weights: Weights,
    naming: Naming,
    config: Config,
    size: Option<Size>,
    version: Version,
}

impl Checkpoint {
    /// Opens a file, or a folder with one: `model.safetensors`, else the only `.safetensors`, `.pt`.
    ///
    /// A published size is recognised from its tensors. Another network needs the Hub's
    /// `config.json` beside it, which is also followed for a published size if it agrees with the tensors.
    ///
    /// # Errors
    /// A file that cannot be read or is of another model.
    pub fn open(path: &Path) -> std::result::Result<Self, WeightsError> {
        let weights = Weights::open(path)?;
        let file = weights.path().to_owned();
        let unrecognised = |message: &str| WeightsError::Unrecognised {
            path: file.clone(),
            message: message.into(),
        };
        let has = |name: &str| weights.shapes().contains_key(name);
        let naming = if has("image_encoder.trunk.pos_embed") {
            Naming::Original
        } else if has("vision_encoder.backbone.pos_embed") {
            Naming::Hub
        } else {
            return Err(unrecognised("these are not the weights of a SAM 2"));
        };
        let is_newer = has("no_obj_embed_spatial") || has("occlusion_spatial_embedding_parameter");
        let found = Shapes::of(&weights, naming)
            .ok_or_else(|| unrecognised("the tensors of the image encoder are incomplete"))?;
        let size = found.size();
        let config = match (config_beside(&file), size) {
            (Ok(Some(config)), _) if found.agree(&config) => config,
            // What lies beside a network that is known need not be its own.
            (_, Some(size)) => Config::of_size(size),
            (Err(error), None) => return Err(error),
            (Ok(Some(_)), None) => {
                return Err(unrecognised("the config.json beside it is of another network"));
            }
            (Ok(None), None) => {
                return Err(unrecognised(
                    "of no published size, and without a config.json beside it",
                ));
            }
        };
        let version = if is_newer { Version::V2_1 } else { Version::V2_0 };
        Ok(Self { weights, naming, config, size, version })
    }

    /// The opened file.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.weights.path()
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The published size, if it is one.
    pub fn size(&self) -> Option<Size> {
        self.size
    }

    /// The release that the weights are of.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Builds what `build` makes of the tensors, by their original names, and checks that it used all
    /// that belong to the image path.
    ///
    /// # Errors
    /// A missing, misshapen or extra tensor, each by its name in the file.
    pub fn load<T>(
        &self,
        dtype: DType,
        device: &Device,
        build: impl FnOnce(&Config, VarBuilder<'_>) -> Result<T>,
    ) -> std::result::Result<T, WeightsError> {
        let stored = |original: &str| match self.naming {
            Naming::Original => Stored::whole(original),
            Naming::Hub => on_the_hub(original),
        };
        self.weights.build((dtype, device), &stored, is_ignored, |vb| build(&self.config, vb))
    }
}

fn config_beside(file: &Path) -> std::result::Result<Option<Config>, WeightsError> {
    let path = file.with_file_name("config.json");
    match std::fs::read_to_string(&path) {
        Ok(json) => match Config::from_hub_json(&json) {
            Ok(config) => Ok(Some(config)),
            Err(message) => Err(WeightsError::Config { path, message }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(WeightsError::Read { path, reason }),
    }
}

/// What the tensors say of the trunk: heads and global blocks are not in them.
struct Shapes {
    embed_dim: usize,
    stages: Vec<usize>,
    window: usize,
    position_size: [usize; 2],
}

impl Shapes {
    fn of(weights: &Weights, naming: Naming) -> Option<Self> {
        let dims = |original: &str| {
            let name = match naming {
                Naming::Original => original.to_owned(),
                Naming::Hub => on_the_hub(original).name,
            };
            weights.shapes().get(&name).map(|shape| shape.dims().to_vec())
        };
        let &[_, embed_dim, height, width] = &dims("image_encoder.trunk.pos_embed")?[..] else {
            return None;
        };
        let window = *dims("image_encoder.trunk.pos_embed_window")?.last()?;
        let mut stages = vec![0];
        for block in 0.. {
            let name = format!("image_encoder.trunk.blocks.{block}");
            if dims(&format!("{name}.norm1.weight")).is_none() {
                break;
            }
            // Only the first block of a later stage has a projection of its own.
            if dims(&format!("{name}.proj.weight")).is_some() {
                stages.push(0);
            }
            *stages.last_mut()? += 1;
        }
        Some(Self { embed_dim, stages, window, position_size: [height, width] })
    }

    fn agree(&self, config: &Config) -> bool {
        let trunk = &config.trunk;
        self.embed_dim == trunk.embed_dim
            && self.stages == trunk.stages
            && self.window == trunk.window_spec[0]
            && self.position_size == trunk.position_size
    }

    fn size(&self) -> Option<Size> {
        Size::ALL.into_iter().find(|&size| self.agree(&Config::of_size(size)))
    }
}
