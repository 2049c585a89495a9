//! A file of SAM 2's weights, recognised from its tensors, and the network that it holds.

use std::io::ErrorKind;
use std::path::Path;

use candle_core::{DType, Device};

use crate::checkpoints::sam2::hub_names::{is_unused, stored_on_hub};
use crate::checkpoints::weights::{NetworkTensors, StoredTensor, Weights, WeightsError, read_text};
use crate::models::sam2::{Config, Sam2, Size};

/// A tensor of every SAM 2 in the original naming.
const ORIGINAL_ANCHOR: &str = "image_encoder.trunk.pos_embed";
/// The same tensor in the Hub's naming.
const HUB_ANCHOR: &str = "vision_encoder.backbone.pos_embed";

/// The two releases. The images' path through the network differs in the weights only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sam2Version {
    /// SAM 2, July 2024.
    V2_0,
    /// SAM 2.1, September 2024.
    V2_1,
}

impl Sam2Version {
    /// Returns `2` or `2.1`, as in the names of the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2_0 => "2",
            Self::V2_1 => "2.1",
        }
    }
}

/// The two naming schemes of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    Original,
    Hub,
}

impl Naming {
    fn stored(self, original: &str) -> StoredTensor {
        match self {
            Self::Original => StoredTensor::whole(original),
            Self::Hub => stored_on_hub(original),
        }
    }
}

/// A recognised file of SAM 2's weights.
#[derive(Debug)]
pub struct Sam2Checkpoint {
    weights: Weights,
    naming: Naming,
    config: Config,
    size: Option<Size>,
    version: Sam2Version,
}

impl Sam2Checkpoint {
    /// Opens a file, or a folder with one, in the original naming or the Hub's.
    ///
    /// A published size is recognised from its tensors. Any other network needs the Hub's
    /// `config.json` in the same folder. That file also applies to a published size if it agrees
    /// with the tensors.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is of another model.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::of(Weights::open(path)?)
    }

    /// Returns true if weights are those of a SAM 2.
    pub fn is_of(weights: &Weights) -> bool {
        weights.has_any(&[ORIGINAL_ANCHOR, HUB_ANCHOR])
    }

    /// Recognises opened weights, with a configuration next to them.
    ///
    /// # Errors
    /// Fails if they are of another model.
    pub fn of(weights: Weights) -> Result<Self, WeightsError> {
        let weights = weights.without_prefix(&[ORIGINAL_ANCHOR, HUB_ANCHOR])?;
        let file = weights.path().to_owned();
        let unrecognised = |message: &str| WeightsError::Unrecognised {
            path: file.clone(),
            message: message.into(),
        };
        let has = |name: &str| weights.shapes().contains_key(name);
        let naming = if has(ORIGINAL_ANCHOR) {
            Naming::Original
        } else if has(HUB_ANCHOR) {
            Naming::Hub
        } else {
            return Err(unrecognised("these are not the weights of a SAM 2"));
        };
        let is_newer = has("no_obj_embed_spatial") || has("occlusion_spatial_embedding_parameter");
        let trunk = TrunkShapes::of(&weights, naming)
            .ok_or_else(|| unrecognised("the tensors of the image encoder are incomplete"))?;
        let size = trunk.published_size();
        let config = match (read_config(&file), size) {
            (Ok(Some(config)), _) if trunk.agrees_with(&config) => config,
            // A config.json in the folder of a published network may belong to another one.
            (_, Some(size)) => Config::of_size(size),
            (Err(error), None) => return Err(error),
            (Ok(Some(_)), None) => {
                return Err(unrecognised("the config.json next to it is of another network"));
            }
            (Ok(None), None) => {
                return Err(unrecognised(
                    "of no published size, and without a config.json next to it",
                ));
            }
        };
        let version = if is_newer { Sam2Version::V2_1 } else { Sam2Version::V2_0 };
        Ok(Self { weights, naming, config, size, version })
    }

    /// The opened file.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The published size, or `None` for any other network.
    pub fn size(&self) -> Option<Size> {
        self.size
    }

    /// The release that the weights belong to.
    pub fn version(&self) -> Sam2Version {
        self.version
    }

    /// Loads the network. Tensors that images do not use are skipped; all others must be used.
    ///
    /// # Errors
    /// Fails on a missing, misshapen or extra tensor; the error has its name in the file.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<Sam2, WeightsError> {
        let tensors = NetworkTensors {
            stored_as: &|original| self.naming.stored(original),
            is_unused: &is_unused,
            keeps_half: &|_| false,
            dtype,
            device,
        };
        self.weights.build_network(&tensors, |vb| Sam2::new(&self.config, &vb))
    }
}

/// Reads the `config.json` next to a file. Returns `None` if there is none.
fn read_config(file: &Path) -> Result<Option<Config>, WeightsError> {
    let path = file.with_file_name("config.json");
    match read_text(&path) {
        Ok(json) => match Config::from_hub_json(&json) {
            Ok(config) => Ok(Some(config)),
            Err(message) => Err(WeightsError::Config { path, message }),
        },
        Err(WeightsError::Read { reason, .. }) if reason.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The part of the trunk's configuration that shows in the tensors' shapes. The number of heads and
/// the blocks with global attention do not.
struct TrunkShapes {
    embed_dim: usize,
    stages: Vec<usize>,
    window: usize,
    position_size: [usize; 2],
}

impl TrunkShapes {
    /// Returns `None` if tensors are missing.
    fn of(weights: &Weights, naming: Naming) -> Option<Self> {
        let dims = |original: &str| {
            let shape = weights.shapes().get(&naming.stored(original).name)?;
            Some(shape.dims().to_vec())
        };
        let &[_, embed_dim, height, width] = &dims(ORIGINAL_ANCHOR)?[..] else {
            return None;
        };
        let window = *dims("image_encoder.trunk.pos_embed_window")?.last()?;
        let mut stages = vec![0];
        for block in 0.. {
            let name = format!("image_encoder.trunk.blocks.{block}");
            if dims(&format!("{name}.norm1.weight")).is_none() {
                break;
            }
            // Only the first block of a later stage projects its input to more channels.
            if dims(&format!("{name}.proj.weight")).is_some() {
                stages.push(0);
            }
            *stages.last_mut()? += 1;
        }
        Some(Self { embed_dim, stages, window, position_size: [height, width] })
    }

    fn agrees_with(&self, config: &Config) -> bool {
        let trunk = &config.trunk;
        self.embed_dim == trunk.embed_dim
            && self.stages == trunk.stages
            && self.window == trunk.window_spec[0]
            && self.position_size == trunk.position_size
    }

    fn published_size(&self) -> Option<Size> {
        Size::ALL.into_iter().find(|&size| self.agrees_with(&Config::of_size(size)))
    }
}
