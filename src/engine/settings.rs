//! The part of the configuration that chooses and sizes an engine.

use std::str::FromStr;

use candle_core::DType;
use serde::{Deserialize, Serialize};

use crate::engine::handle::Limits;
use crate::models::device::DeviceId as Place;
use crate::models::mplug_owl3::RatingSettings;
use crate::models::sam2::amg::{AmgPreset, AmgSettings};

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
    /// What the device is fastest in: single on a processor, `bf16` on a GPU.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Half precision, five bits of exponent.
    F16,
    /// Half precision, the exponent of single.
    Bf16,
}

impl Precision {
    /// The tensor library's name of it.
    pub fn on(self, place: Place) -> DType {
        match self {
            Self::Auto => place.dtype(),
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
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err("one of auto, f32, f16, bf16".to_owned()),
        }
    }
}

/// Devices that a model runs on, a lane on each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Devices {
    /// The first GPU that answers, else the processor.
    #[default]
    Auto,
    /// These, all of one kind; one that is named twice has two lanes.
    These(Vec<Place>),
}

impl Devices {
    /// The devices, with `auto` decided; at least one.
    pub fn places(&self) -> Vec<Place> {
        match self {
            Self::Auto => vec![Place::best()],
            Self::These(places) => places.clone(),
        }
    }
}

impl FromStr for Devices {
    type Err = String;

    /// `auto`, or devices such as `cpu`, `cuda:0`, `cuda:0,1`, `metal`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut places: Vec<Place> = Vec::new();
        for part in text.split(',').map(str::trim) {
            // A number alone is a further device of the kind before it.
            let place = match places.last() {
                Some(last) if part.bytes().all(|c| c.is_ascii_digit()) && !part.is_empty() => {
                    format!("{}:{part}", last.kind()).parse()?
                }
                _ => part.parse()?,
            };
            places.push(place);
        }
        let kinds = places.windows(2).all(|pair| pair[0].kind() == pair[1].kind());
        if !kinds {
            return Err(format!("`{text}`: devices of several kinds do not give the same answers"));
        }
        Ok(Self::These(places))
    }
}

impl TryFrom<String> for Devices {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Devices> for String {
    fn from(devices: Devices) -> Self {
        match devices {
            Devices::Auto => "auto".to_owned(),
            Devices::These(places) => {
                places.iter().map(Place::to_string).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// Whether the largest batch is run once before the first image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmUp {
    /// On a GPU, where it takes seconds and finds what its memory holds.
    #[default]
    Auto,
    /// Always; on a processor it takes as long as a batch of images.
    Always,
    /// Never.
    Never,
}

impl WarmUp {
    pub(super) fn is_wanted_on(self, place: Place) -> bool {
        match self {
            Self::Auto => place != Place::Cpu,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Settings of the paper's engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DogIqaSettings {
    /// SAM 2 or 2.1: a preset (`sam2.1-large`), an `owner/name` of the Hub, both fetched by
    /// `dogiqa models pull`, or a path: a `.pt` or `.safetensors` file, or a folder with one.
    pub segmenter: String,
    /// mPLUG-Owl3: a preset (`mplug-owl3-7b-241101`), an `owner/name` of the Hub, or a path: a folder, a
    /// `.safetensors`, its index, or a `.gguf`.
    pub scorer: String,
    /// SHA-256 of files of weights. If any is given, each file must have one of them.
    pub sha256: Vec<String>,
    /// Where both run, each with a lane on every device: `auto` (the first GPU, else the processor), `cpu`,
    /// `cuda:0`, `cuda:0,1`, `metal`.
    pub device: Devices,
    /// Number format of both: `auto` (`f32` on a processor, `bf16` on a GPU), `f32`, `f16`, `bf16`. Half formats
    /// are slow on a processor; a `.gguf` has its own.
    pub dtype: Precision,
    /// Whether the largest batch is run once at the start, so that its memory is reserved: `auto` (on a GPU),
    /// `always`, `never`.
    pub warm_up: WarmUp,
    /// Parameters of the mask generator, by their names in the reference. The defaults are ours: few,
    /// large objects.
    pub masks: AmgSettings,
    /// How the model is asked.
    pub rating: RatingSettings,
}

impl Default for DogIqaSettings {
    fn default() -> Self {
        Self {
            segmenter: String::new(),
            scorer: String::new(),
            sha256: Vec::new(),
            device: Devices::default(),
            dtype: Precision::default(),
            warm_up: WarmUp::default(),
            masks: AmgPreset::DogIqa.settings(),
            rating: RatingSettings::default(),
        }
    }
}

/// Sizes of the queue in front of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaneSettings {
    /// Prepared inputs that may wait for the model; more hold the pipeline back. 0: as many as suit the device.
    pub queue: usize,
    /// Pixels in one batch; 0: as many as suit the device. An input larger than this runs alone.
    pub batch_pixels: usize,
}

/// Inputs before a model on a processor, and on a GPU: two of its batches of crops.
const QUEUE_CPU: usize = 16;
const QUEUE_GPU: usize = 64;
/// Pixels in a batch on a processor, which one image or fourteen crops fill already.
const BATCH_PIXELS_CPU: usize = 2_000_000;
/// Pixels in a batch on a GPU: four images, or thirty-two crops.
const BATCH_PIXELS_GPU: usize = 4_600_000;

impl LaneSettings {
    /// Sizes of a lane on a device.
    pub(super) fn limits_on(&self, place: Place) -> Limits {
        let batch_cost = match (self.batch_pixels, place) {
            (0, Place::Cpu) => BATCH_PIXELS_CPU,
            (0, Place::Cuda(_) | Place::Metal(_)) => BATCH_PIXELS_GPU,
            (pixels, _) => pixels,
        };
        let queue = match (self.queue, place) {
            (0, Place::Cpu) => QUEUE_CPU,
            (0, Place::Cuda(_) | Place::Metal(_)) => QUEUE_GPU,
            (queue, _) => queue,
        };
        Limits { queue, batch_cost }
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
        match self.name {
            EngineName::DogIqa => true,
            EngineName::Classic => false,
            EngineName::Auto => {
                !self.dog_iqa.segmenter.is_empty() || !self.dog_iqa.scorer.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_of_one_kind_and_read_as_they_are_written() {
        let read = |text: &str| text.parse::<Devices>();
        let places = |text| read(text).unwrap().places();
        assert_eq!(read("auto"), Ok(Devices::Auto));
        assert_eq!(places("cuda:0,1"), [Place::Cuda(0), Place::Cuda(1)]);
        assert_eq!(places("cuda:0, cuda:3"), [Place::Cuda(0), Place::Cuda(3)]);
        assert_eq!(places("cpu,cpu"), [Place::Cpu; 2]);
        assert_eq!(String::from(read("cuda:0,1").unwrap()), "cuda:0,cuda:1");
        for text in ["", "cpu,cuda", "cuda:0,", "1,2", "auto,cpu", "cpu,1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
