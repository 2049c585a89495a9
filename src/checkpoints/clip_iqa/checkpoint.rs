//! A checkpoint of CLIP: recognises it by its tensors, and loads its network.

use std::io::ErrorKind;
use std::path::Path;

use candle_core::{DType, Device};

use crate::checkpoints::weights::{NetworkTensors, StoredTensor, Weights, WeightsError, read_text};
use crate::models::clip_iqa::{Clip, Config, ConfigHints};

/// A tensor of every CLIP with a ResNet.
const RESNET: &str = "visual.attnpool.c_proj.weight";
/// A tensor of every CLIP with a ViT in the Hub's naming.
const VIT: &str = "vision_model.embeddings.class_embedding";
/// A tensor of every CLIP with a ViT in OpenCLIP's naming, which is refused.
const OPEN_CLIP_VIT: &str = "visual.class_embedding";
/// The logarithm of the factor of a cosine.
const LOGIT_SCALE: &str = "logit_scale";
/// Largest logarithm: that of ten times the limit of training, 100.
const LOGIT_SCALE_MAX: f64 = 6.91;

/// Configurations that may be next to the weights, the first one that exists.
const CONFIGS: [&str; 2] = ["open_clip_config.json", "config.json"];

/// A recognised checkpoint of CLIP.
#[derive(Debug)]
pub struct ClipCheckpoint {
    weights: Weights,
    config: Config,
    logit_scale: f64,
}

impl ClipCheckpoint {
    /// Returns true if weights are those of a CLIP.
    pub(crate) fn is_of(weights: &Weights) -> bool {
        weights.has_any(&[RESNET, VIT, OPEN_CLIP_VIT])
    }

    /// Opens a file, an index of shards, or a folder with one of them. A configuration in the same
    /// folder states the heads; without one they have 64 values each.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is of another model, or has no scale of logits.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::of(Weights::open(path)?)
    }

    /// Recognises opened weights, with a configuration next to them.
    ///
    /// # Errors
    /// Fails as [`ClipCheckpoint::open`] does.
    pub(crate) fn of(weights: Weights) -> Result<Self, WeightsError> {
        let weights = weights.without_prefix(&[RESNET, VIT])?;
        let unrecognised = |message: String| WeightsError::Unrecognised {
            path: weights.path().to_owned(),
            message,
        };
        let has = |name: &str| weights.shapes().contains_key(name);
        if !has(RESNET) && !has(VIT) {
            let message = if has(OPEN_CLIP_VIT) {
                "this is a CLIP with a ViT in the names of OpenCLIP; use one in the names of the \
                 Hub, such as `clip-iqa-vit-b-16`"
            } else {
                "these are not the weights of a CLIP: it has no image tower"
            };
            return Err(unrecognised(message.to_owned()));
        }
        let hints = hints_next_to(weights.path())?;
        let config = Config::of_shapes(weights.shapes(), hints).map_err(unrecognised)?;
        let logit_scale = logit_scale_of(&weights)?;
        Ok(Self { weights, config, logit_scale })
    }

    /// Loads the network. The text tower is in `f32`, because it runs once.
    ///
    /// # Errors
    /// Fails on a missing, misshapen or extra tensor; the error has its name in the file.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<Clip, WeightsError> {
        let tensors = NetworkTensors {
            stored_as: &StoredTensor::whole,
            is_unused: &is_unused,
            keeps_half: &|_| false,
            dtype,
            device,
        };
        self.weights.build_network(&tensors, |vb| Clip::new(&self.config, &vb))
    }

    /// The opened files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The logarithm of the factor of a cosine.
    pub fn logit_scale(&self) -> f64 {
        self.logit_scale
    }

    /// Returns the memory of the network and of one image of `pixels`, in bytes.
    pub fn bytes(&self, pixels: u32) -> u64 {
        let images = self.config.bytes_per_pixel() * u64::from(pixels);
        self.weights.bytes_in(DType::F32).saturating_add(images)
    }
}

/// Returns true for tensors that ratings do not use: positions, which the paper drops from the
/// attention pool, and what programs store besides the weights.
fn is_unused(name: &str) -> bool {
    const STORED: [&str; 6] = [
        LOGIT_SCALE,
        "visual.attnpool.positional_embedding",
        "attn_mask",
        "input_resolution",
        "context_length",
        "vocab_size",
    ];
    STORED.contains(&name)
        || name.ends_with(".position_ids")
        || name.ends_with(".num_batches_tracked")
}

/// Reads the configuration next to a file. There may be none.
fn hints_next_to(file: &Path) -> Result<ConfigHints, WeightsError> {
    for name in CONFIGS {
        let path = file.with_file_name(name);
        match read_text(&path) {
            Ok(json) => {
                return ConfigHints::from_json(&json)
                    .map_err(|message| WeightsError::Config { path, message });
            }
            Err(WeightsError::Read { reason, .. }) if reason.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ConfigHints::default())
}

/// Reads the scale of logits. No value is assumed for a file without one.
fn logit_scale_of(weights: &Weights) -> Result<f64, WeightsError> {
    let missing =
        || WeightsError::Missing { path: weights.path().to_owned(), name: LOGIT_SCALE.to_owned() };
    let shape = weights.shapes().get(LOGIT_SCALE).ok_or_else(missing)?;
    if shape.elem_count() != 1 {
        weights.check_shape(LOGIT_SCALE, &[])?;
    }
    let scale = weights.load(LOGIT_SCALE, DType::F64, &Device::Cpu)?;
    let scale: f64 = scale.reshape(())?.to_scalar()?;
    // Not a number is refused, too.
    if scale.abs() <= LOGIT_SCALE_MAX {
        return Ok(scale);
    }
    Err(WeightsError::Unrecognised {
        path: weights.path().to_owned(),
        message: format!(
            "`{LOGIT_SCALE}` is {scale}, that of a CLIP is at most {:.2}; the file is damaged",
            100.0_f64.ln()
        ),
    })
}
