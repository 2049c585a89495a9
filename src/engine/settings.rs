//! The part of the configuration that chooses and sizes an engine.

use std::path::PathBuf;
use std::str::FromStr;

use candle_core::DType;
use serde::{Deserialize, Serialize};

use crate::engine::lane::Limits;
use crate::models::mplug_owl3::RatingSettings;
use crate::models::sam2::amg::{AmgSettings, Preset};

/// Which engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// The paper's engine where its weights are named, else `classic`.
    #[default]
    Auto,
    /// The paper's method: SAM 2 and mPLUG-Owl3.
    DogIqa,
    /// Graph-based segmentation and hand-crafted measures: needs no weights and no accelerator. It
    /// is not the paper's method, and its events name it.
    Classic,
}

/// Number formats that networks run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Half precision, five bits of exponent.
    F16,
    /// Half precision, the exponent of single.
    Bf16,
}

impl Precision {
    /// The tensor library's name of it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err("one of f32, f16, bf16".to_owned()),
        }
    }
}

/// Settings of the paper's engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DogIqaSettings {
    /// Weights of SAM 2 or 2.1: a `.pt` or `.safetensors` file, or a folder with one.
    pub segmenter: PathBuf,
    /// Weights of mPLUG-Owl3: a folder, a `.safetensors`, its index, or a `.gguf`.
    pub scorer: PathBuf,
    /// Number format of both: `f32`, `f16`, `bf16`. Half formats are slow on a CPU; a `.gguf` has its own.
    pub dtype: Precision,
    /// Parameters of the mask generator, by their names in the reference. The defaults are ours: few,
    /// large objects.
    pub masks: AmgSettings,
    /// How the model is asked.
    pub rating: RatingSettings,
}

impl Default for DogIqaSettings {
    fn default() -> Self {
        Self {
            segmenter: PathBuf::new(),
            scorer: PathBuf::new(),
            dtype: Precision::default(),
            masks: Preset::DogIqa.settings(),
            rating: RatingSettings::default(),
        }
    }
}

/// Sizes of the queue in front of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaneSettings {
    /// Prepared inputs that may wait for the model; more hold the pipeline back.
    pub queue: usize,
    /// Pixels in one batch. An input larger than this runs alone.
    pub batch_pixels: usize,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self { queue: 16, batch_pixels: 2_000_000 }
    }
}

impl From<&LaneSettings> for Limits {
    fn from(settings: &LaneSettings) -> Self {
        Self { queue: settings.queue.max(1), batch_cost: settings.batch_pixels }
    }
}

/// Settings of the engine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `dog-iqa`: the paper's method, with the weights below. `classic`: graph-based segmentation and
    /// hand-crafted measures, without weights. `auto`: the former where weights are named, else the
    /// latter.
    pub name: EngineName,
    /// The paper's engine.
    pub dog_iqa: DogIqaSettings,
    /// The queue in front of the segmenter.
    pub segment: LaneSettings,
    /// The queue in front of the scorer.
    pub score: LaneSettings,
}

impl Settings {
    /// Whether the paper's engine is chosen, by its name or by its weights.
    pub fn is_dog_iqa(&self) -> bool {
        let named = |path: &PathBuf| !path.as_os_str().is_empty();
        match self.name {
            EngineName::DogIqa => true,
            EngineName::Classic => false,
            EngineName::Auto => named(&self.dog_iqa.segmenter) || named(&self.dog_iqa.scorer),
        }
    }
}
