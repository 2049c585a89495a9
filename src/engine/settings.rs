//! Settings that choose and size an engine, and the lane limits that follow from them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::str::FromStr;

use candle_core::DType;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::changed_settings::changed_settings;
use crate::engine::scorers::Scorers;
use crate::engine::server::HttpSettings;
use crate::models::clip_iqa::ClipIqaSettings;
use crate::models::device::DeviceId;
use crate::models::mplug_owl3::RatingSettings;
use crate::models::qwen3_5_vl::QRealignSettings;
use crate::models::sam2::amg::{AmgPreset, AmgSettings};

/// The engines by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// `dog-iqa` if the settings name weights, otherwise `classic`.
    #[default]
    Auto,
    /// The paper's method: SAM 2 and mPLUG-Owl3.
    DogIqa,
    /// Graph-based segmentation and hand-crafted measures, without weights and on the CPU. It is
    /// not the paper's method, and its events name it.
    Classic,
}

/// Number formats of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The fastest format of the device: `f32` on a CPU, `bf16` on a GPU.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Half precision with five bits of exponent.
    F16,
    /// Half precision with the exponent of single precision.
    Bf16,
}

impl Precision {
    /// Returns the format to use on a device.
    pub fn on(self, device: DeviceId) -> DType {
        match self {
            Self::Auto => device.dtype(),
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

/// The devices of the models, with one lane on each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Devices {
    /// The first GPU that responds, otherwise the CPU.
    #[default]
    Auto,
    /// Devices of one kind. A device that is listed twice has two lanes.
    These(Vec<DeviceId>),
}

impl Devices {
    /// Returns the devices, at least one, with `auto` resolved.
    pub fn ids(&self) -> Vec<DeviceId> {
        match self {
            Self::Auto => vec![DeviceId::best()],
            Self::These(devices) => devices.clone(),
        }
    }
}

impl FromStr for Devices {
    type Err = String;

    /// Parses `auto`, or devices such as `cpu`, `cuda:0`, `cuda:0,1`, `metal`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut devices: Vec<DeviceId> = Vec::new();
        for part in text.split(',').map(str::trim) {
            // A number alone is another device of the preceding kind.
            let device = match devices.last() {
                Some(last) if part.bytes().all(|c| c.is_ascii_digit()) && !part.is_empty() => {
                    format!("{}:{part}", last.kind()).parse()?
                }
                _ => part.parse()?,
            };
            devices.push(device);
        }
        let is_one_kind = devices.windows(2).all(|pair| pair[0].kind() == pair[1].kind());
        if !is_one_kind {
            return Err(format!("`{text}`: devices of several kinds do not give the same answers"));
        }
        Ok(Self::These(devices))
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
            Devices::These(devices) => {
                devices.iter().map(DeviceId::to_string).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// The devices on which the largest batch runs once before the first image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmUp {
    /// GPUs only, where the run takes seconds and finds the batch that fits in memory.
    #[default]
    Auto,
    /// Every device. On a CPU the run takes as long as a batch of images.
    Always,
    /// No device.
    Never,
}

impl WarmUp {
    pub(crate) fn is_wanted_on(self, device: DeviceId) -> bool {
        match self {
            Self::Auto => device != DeviceId::Cpu,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Settings of the paper's engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DogIqaSettings {
    /// The SAM 2 or 2.1 model that segments: a preset (`sam2.1-large`), an `owner/name` of the Hub,
    /// or a path. Download the first two with `dogiqa models pull`. A path names a `.pt` or
    /// `.safetensors` file, or a folder with one. `classic` is the segmenter of the engine of that
    /// name, which needs no weights and is not the paper's.
    pub segmenter: String,
    /// The model that rates: a preset (`mplug-owl3-7b-241101`, or `q-realign-0.8b` and `clip-iqa`,
    /// which are not the paper's), an `owner/name` of the Hub, or a path. Download the first two
    /// with `dogiqa models pull`. A path names a folder, a `.safetensors` file, its index, or a
    /// `.gguf` file. The weights decide whether it is an mPLUG-Owl3, a Qwen3.5-VL or a CLIP. `http`
    /// is a server with OpenAI's API, with the settings of `engine.dog_iqa.http`.
    ///
    /// `{ global = "…", objects = "…" }` rates the whole image by one model and its objects by
    /// another. `[{ model = "…", weight = 0.6 }, { model = "…", weight = 0.4 }]` is an ensemble of
    /// two to four, whose level distributions are averaged; its weights sum to 1. It may also be
    /// `global` or `objects`. Every model is in memory once.
    pub scorer: Scorers,
    /// Allowed SHA-256 digests of weight files. If the list is not empty, the worker does not start
    /// with a file of any other digest.
    pub sha256: Vec<String>,
    /// Devices of all models, each with a lane per model: `auto` (the first GPU, otherwise the
    /// CPU), `cpu`, `cuda:0`, `cuda:0,1` or `metal`.
    pub device: Devices,
    /// Number format of the models: `auto` (`f32` on a CPU, `bf16` on a GPU), `f32`, `f16` or
    /// `bf16`. Half-precision formats are slow on a CPU. A `.gguf` file keeps its own format.
    pub dtype: Precision,
    /// Number format of the segmenter, if it differs from `dtype`. The authors' program runs it in
    /// `f32`, and the scorer in `f16`.
    pub segmenter_dtype: Option<Precision>,
    /// Runs the largest batch once at start-up. This reserves its memory and detects a device that
    /// is too small: `auto` (on a GPU only), `always` or `never`.
    pub warm_up: WarmUp,
    /// Parameters of the mask generator, named as in the reference implementation. The defaults
    /// differ from the reference: they produce few, large objects.
    pub masks: AmgSettings,
    /// The prompt of an mPLUG-Owl3.
    pub rating: RatingSettings,
    /// The prompt and the images of a Qwen3.5-VL, such as Q-ReAlign.
    pub q_realign: QRealignSettings,
    /// The prompts and the images of CLIP-IQA.
    pub clip_iqa: ClipIqaSettings,
    /// The server that rates if a `scorer` is `http`: vLLM, SGLang, TGI, llama.cpp, mistral.rs or
    /// another one with OpenAI's API and a model that reads images.
    pub http: HttpSettings,
}

impl Default for DogIqaSettings {
    fn default() -> Self {
        Self {
            segmenter: String::new(),
            scorer: Scorers::default(),
            sha256: Vec::new(),
            device: Devices::default(),
            dtype: Precision::default(),
            segmenter_dtype: None,
            warm_up: WarmUp::default(),
            masks: AmgPreset::DogIqa.settings(),
            rating: RatingSettings::default(),
            q_realign: QRealignSettings::default(),
            clip_iqa: ClipIqaSettings::default(),
            http: HttpSettings::default(),
        }
    }
}

impl DogIqaSettings {
    /// Lists the settings that change answers and differ from their defaults, by their names in the
    /// configuration.
    pub(crate) fn changed(&self) -> BTreeMap<String, Value> {
        let Self { dtype, segmenter_dtype, masks, rating, q_realign, clip_iqa, http, .. } =
            self.clone();
        let settings = Self {
            dtype,
            segmenter_dtype,
            masks,
            rating,
            q_realign,
            clip_iqa,
            http: http.of_answers(),
            ..Self::default()
        };
        changed_settings("engine.dog_iqa", &settings, &Self::default())
    }
}

/// Settings of the queue in front of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaneSettings {
    /// Prepared inputs that may wait for the model, of HTTP requests and of the backlog each; when
    /// the queue is full, the pipeline waits. A longer queue uses more memory. 0 chooses a size for
    /// the device.
    pub queue: usize,
    /// Maximum pixels in one batch; an input that is larger runs alone. Lower it if batches exceed
    /// the stage's timeout. 0 chooses a size for the device.
    pub batch_pixels: usize,
}

/// Inputs in the queue of a CPU.
const QUEUE_CPU: usize = 16;
/// Inputs in the queue of a GPU: two of its batches of crops.
const QUEUE_GPU: usize = 64;
/// Pixels in a batch on a CPU, which one image or fourteen crops already fill.
const BATCH_PIXELS_CPU: usize = 2_000_000;
/// Pixels in a batch on a GPU: four images, or thirty-two crops.
const BATCH_PIXELS_GPU: usize = 4_600_000;

impl LaneSettings {
    /// Returns the limits of a lane, with every 0 replaced by the size for the device.
    pub fn limits_on(&self, device: DeviceId) -> LaneLimits {
        let (queue, batch_pixels) = match device {
            DeviceId::Cpu => (QUEUE_CPU, BATCH_PIXELS_CPU),
            DeviceId::Cuda(_) | DeviceId::Metal(_) => (QUEUE_GPU, BATCH_PIXELS_GPU),
        };
        let or_default = |value: usize, default: usize| if value == 0 { default } else { value };
        LaneLimits {
            queue: or_default(self.queue, queue),
            batch_cost: or_default(self.batch_pixels, batch_pixels),
        }
    }
}

/// Limits of a lane. Costs are in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Inputs that may wait before the caller waits too, which bounds memory. At least 1.
    pub queue: usize,
    /// Maximum total cost of one batch. An input that costs more runs alone.
    pub batch_cost: usize,
}

/// Limits of both lanes.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits {
    /// Limits of the segmenter's lane.
    pub segment: LaneLimits,
    /// Limits of the scorer's lane.
    pub score: LaneLimits,
}

impl EngineLimits {
    /// Returns the limits that the settings set for a CPU.
    pub(crate) fn on_cpu(settings: &Settings) -> Self {
        let Settings { segment, score, .. } = settings;
        Self { segment: segment.limits_on(DeviceId::Cpu), score: score.limits_on(DeviceId::Cpu) }
    }
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self::on_cpu(&Settings::default())
    }
}

/// Settings of the engine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Selects the engine. `dog-iqa`: the paper's method, with the weights that
    /// `engine.dog_iqa.segmenter` and `engine.dog_iqa.scorer` name. `classic`: graph-based
    /// segmentation and hand-crafted measures, without weights. `auto`: `dog-iqa` if either is set,
    /// otherwise `classic`.
    pub name: EngineName,
    /// The paper's engine.
    pub dog_iqa: DogIqaSettings,
    /// The queue in front of the segmenter.
    pub segment: LaneSettings,
    /// The queue in front of the scorer.
    pub score: LaneSettings,
    /// A second engine that the worker opens to compare it with this one. `share` is the share of
    /// the images that it scores, from 0 to 1, chosen by the id of the reference. `images` is the
    /// maximum number of images that wait for it or are scored by it; further ones are left out.
    /// `name`, `dog_iqa`, `segment` and `score` are settings as above; presets do not change them.
    /// Its events go to `kafka.shadow_topic`. No answer waits for it, but it reads each of its
    /// images again, and needs memory and a part of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<ShadowSettings>>,
}

/// Settings of a second engine. It has no second engine itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShadowSettings {
    /// Share of the images that it scores, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub share: f64,
    /// Maximum number of images that wait for it or are scored by it.
    pub images: NonZeroUsize,
    /// As [`Settings::name`].
    pub name: EngineName,
    /// As [`Settings::dog_iqa`].
    pub dog_iqa: DogIqaSettings,
    /// As [`Settings::segment`].
    pub segment: LaneSettings,
    /// As [`Settings::score`].
    pub score: LaneSettings,
}

impl Default for ShadowSettings {
    fn default() -> Self {
        Self {
            share: 0.05,
            images: const { NonZeroUsize::new(32).unwrap() },
            name: EngineName::default(),
            dog_iqa: DogIqaSettings::default(),
            segment: LaneSettings::default(),
            score: LaneSettings::default(),
        }
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(D::Error::custom(format!("the share is {share}, it must be from 0 to 1")))
}

impl ShadowSettings {
    /// Returns the settings of the engine.
    pub fn engine(&self) -> Settings {
        let Self { name, dog_iqa, segment, score, .. } = self.clone();
        Settings { name, dog_iqa, segment, score, shadow: None }
    }
}

impl Settings {
    /// Returns true if the paper's engine is chosen, by its name or by its weights.
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
    fn a_shadow_has_a_share_and_no_shadow() {
        let parse = toml::from_str::<Settings>;
        let settings = parse("[shadow]\nname = 'classic'\nshare = 1").unwrap();
        let shadow = settings.shadow.unwrap();
        assert_eq!((shadow.share, shadow.engine().name), (1.0, EngineName::Classic));
        for text in ["[shadow]\nshare = 1.5", "[shadow]\nshare = -0.1", "[shadow]\nshare = nan"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("it must be from 0 to 1"), "{error}");
        }
        let error = parse("[shadow.shadow]\nshare = 1").unwrap_err().to_string();
        assert!(error.contains("unknown field `shadow`"), "{error}");
    }

    #[test]
    fn devices_are_of_one_kind_and_parse_from_their_own_text() {
        let parse = |text: &str| text.parse::<Devices>();
        let ids = |text| parse(text).unwrap().ids();
        assert_eq!(parse("auto"), Ok(Devices::Auto));
        assert_eq!(ids("cuda:0,1"), [DeviceId::Cuda(0), DeviceId::Cuda(1)]);
        assert_eq!(ids("cuda:0, cuda:3"), [DeviceId::Cuda(0), DeviceId::Cuda(3)]);
        assert_eq!(ids("cpu,cpu"), [DeviceId::Cpu; 2]);
        assert_eq!(String::from(parse("cuda:0,1").unwrap()), "cuda:0,cuda:1");
        for text in ["", "cpu,cuda", "cuda:0,", "1,2", "auto,cpu", "cpu,1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
