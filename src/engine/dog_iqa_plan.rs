//! The paper's engine: SAM 2 segments and mPLUG-Owl3 rates, or another network or a server in its
//! place.

use std::fmt::Display;
use std::sync::Arc;

use image::{Rgb, RgbImage};

use crate::checkpoints::Sam2Checkpoint;
use crate::checkpoints::hub::{HubModel, ModelName, locate};
use crate::engine::adapters::network_scorer::{Network, NetworkRatings, NetworkScorer};
use crate::engine::adapters::sam2::Sam2Segmenter;
use crate::engine::error::EngineError;
use crate::engine::info::ModelInfo;
use crate::engine::lane::LaneDevice;
use crate::engine::memory::{self, SmallestBatches};
use crate::engine::model::{Model, ScorerModel, SegmenterModel};
use crate::engine::model_lane::{ModelPlan, ScorerPlan};
use crate::engine::server::HttpScorer;
use crate::engine::settings::{DogIqaSettings, LaneSettings, Settings};
use crate::engine::warm_up::{MakeSource, PeakMemory};
use crate::imaging::{Crop, CropSource, Picture};
use crate::method::{Standard, fingerprint, short};
use crate::models::device::DeviceId;

/// Name of the engine in events.
pub(crate) const NAME: &str = "dog-iqa";
/// Increased whenever the answer of the same models for the same picture may change.
const VERSION: &str = "1";

/// The name of the segmenter without weights.
const CLASSIC: &str = "classic";
/// The name of the scorer on a server.
const HTTP: &str = "http";

/// A plan for opening both models on every device. Checks everything that needs no weights in
/// memory.
pub(crate) struct DogIqaPlan {
    pub(crate) segmenter: SegmenterPlan,
    pub(crate) scorer: ScorerPlan<NetworkScorer>,
    /// Upper bound of the machine's memory that both models use, in bytes.
    pub(crate) memory: u64,
}

/// A plan for opening a segmenter.
pub(crate) enum SegmenterPlan {
    /// On every device.
    Sam2(ModelPlan<SegmenterModel<Sam2Segmenter>>),
    /// The segmenter of the engine `classic`, which needs neither weights nor a device.
    Classic,
}

impl DogIqaPlan {
    /// Finds both checkpoints and compares them with the memory of the devices.
    ///
    /// # Errors
    /// Fails if a model is not named, is missing or is of another kind, or if a device cannot hold
    /// both.
    pub(crate) fn new(settings: &Settings, standard: &Standard) -> Result<Self, EngineError> {
        let dog_iqa = &settings.dog_iqa;
        for (key, model) in [("segmenter", &dog_iqa.segmenter), ("scorer", &dog_iqa.scorer)] {
            if model.is_empty() {
                return Err(EngineError::NoWeights { key });
            }
        }
        dog_iqa.rating.check().map_err(|message| weights_error("rating", message))?;
        dog_iqa.q_realign.check().map_err(|message| weights_error("q_realign", message))?;
        dog_iqa.clip_iqa.check().map_err(|message| weights_error("clip_iqa", message))?;
        let ids = dog_iqa.device.ids();
        let checked = dog_iqa.masks.check_on(ids[0].kind());
        checked.map_err(|message| weights_error("masks", message))?;
        let places = Places {
            // All lanes of a device, of both stages, run at once.
            devices: PeakMemory::of_devices(&ids),
            is_warmed_up: dog_iqa.warm_up.is_wanted_on(ids[0]),
        };
        let (segmenter, of_segmenter) = plan_segmenter(settings, &places)?;
        let (scorer, of_scorer) = plan_scorer(settings, standard, &places)?;
        let batches = SmallestBatches {
            points: dog_iqa.masks.points_per_batch,
            segmenter_width: of_segmenter.width,
            scorer_width: of_scorer.width,
        };
        let memory = memory::check(&ids, of_segmenter.weights + of_scorer.weights, batches)?;
        let memory = memory.saturating_add(of_scorer.requests);
        Ok(Self { segmenter, scorer, memory })
    }
}

/// The devices of both models.
struct Places {
    devices: Vec<(DeviceId, PeakMemory)>,
    is_warmed_up: bool,
}

/// The memory that a model needs; nothing if it has no weights.
#[derive(Default)]
struct Needs {
    /// Bytes of its weights.
    weights: u64,
    /// Bytes of a number while it runs.
    width: usize,
    /// Bytes of requests to a server.
    requests: u64,
}

fn plan_segmenter(
    settings: &Settings,
    places: &Places,
) -> Result<(SegmenterPlan, Needs), EngineError> {
    let dog_iqa = &settings.dog_iqa;
    if dog_iqa.segmenter == CLASSIC {
        return Ok((SegmenterPlan::Classic, Needs::default()));
    }
    let dtype = dog_iqa.segmenter_dtype.unwrap_or(dog_iqa.dtype).on(places.devices[0].0);
    let path = locate(&dog_iqa.segmenter).map_err(segmenter_error)?;
    let sam2 = Sam2Checkpoint::open(&path).map_err(segmenter_error)?;
    let (weights, width) = (sam2.weights().bytes_in(dtype), dtype.size_in_bytes());
    let masks = dog_iqa.masks.clone();
    let open = move |device: DeviceId| {
        let device = device.open()?;
        let model = Sam2Segmenter::open(&path, masks, dtype, &device);
        Ok(SegmenterModel(model.map_err(segmenter_error)?))
    };
    let pictures = if places.is_warmed_up { warm_up_pictures() } else { Vec::new() };
    let plan = plan_on(&places.devices, &settings.segment, open, pictures);
    Ok((SegmenterPlan::Sam2(plan), Needs { weights, width, requests: 0 }))
}

fn plan_scorer(
    settings: &Settings,
    standard: &Standard,
    places: &Places,
) -> Result<(ScorerPlan<NetworkScorer>, Needs), EngineError> {
    let dog_iqa = &settings.dog_iqa;
    if dog_iqa.scorer == HTTP {
        let server = HttpScorer::new(&dog_iqa.http, standard);
        let server = server.map_err(|message| weights_error("http", message))?;
        let needs = Needs { requests: server.memory(), ..Needs::default() };
        return Ok((ScorerPlan::Server(Arc::new(server)), needs));
    }
    let dtype = dog_iqa.dtype.on(places.devices[0].0);
    let path = locate(&dog_iqa.scorer).map_err(scorer_error)?;
    let ratings = NetworkRatings {
        mplug_owl3: dog_iqa.rating.clone(),
        qwen3_5_vl: dog_iqa.q_realign,
        clip_iqa: dog_iqa.clip_iqa,
    };
    let (network, weights) = Network::of(&path, &ratings, dtype).map_err(scorer_error)?;
    let standard = standard.clone();
    let open = move |device: DeviceId| {
        let device = device.open()?;
        let place = (dtype, &device);
        let model = NetworkScorer::open(network, &path, &standard, ratings, place);
        Ok(ScorerModel(model.map_err(scorer_error)?))
    };
    let crops = if places.is_warmed_up { warm_up_crops() } else { Vec::new() };
    let plan = plan_on(&places.devices, &settings.score, open, crops);
    let needs = Needs { weights, width: dtype.size_in_bytes(), requests: 0 };
    Ok((ScorerPlan::Lane(plan), needs))
}

fn plan_on<M: Model>(
    devices: &[(DeviceId, PeakMemory)],
    lane: &LaneSettings,
    open: impl FnOnce(DeviceId) -> Result<M, EngineError> + Clone + Send + 'static,
    warm_up: Vec<MakeSource<M::Source>>,
) -> ModelPlan<M> {
    let ids: Vec<DeviceId> = devices.iter().map(|(id, _)| *id).collect();
    let open_on = |(index, (device, peak)): (usize, &(DeviceId, PeakMemory))| {
        let (open, device) = (open.clone(), *device);
        let lane_device = LaneDevice::new(lane_device_name(&ids, index), move || open(device));
        (lane_device, peak.clone())
    };
    ModelPlan {
        limits: lane.limits_on(ids[0]),
        devices: devices.iter().enumerate().map(open_on).collect(),
        warm_up,
    }
}

/// Returns a unique name for metrics: a device that is listed twice has two lanes, `cuda:0` and
/// `cuda:0#2`.
fn lane_device_name(devices: &[DeviceId], index: usize) -> String {
    let device = devices[index];
    match devices[..index].iter().filter(|earlier| **earlier == device).count() {
        0 => device.to_string(),
        earlier => format!("{device}#{}", earlier + 1),
    }
}

fn segmenter_error(error: impl Display) -> EngineError {
    weights_error("segmenter", error)
}

fn scorer_error(error: impl Display) -> EngineError {
    weights_error("scorer", error)
}

fn weights_error(key: &'static str, error: impl Display) -> EngineError {
    EngineError::Weights { key, message: error.to_string() }
}

/// Returns a version that differs whenever a model, its parameters or its weights do.
///
/// # Errors
/// Fails if the weights are not those of the named preset, or not those that the settings pin.
pub(crate) fn version(
    settings: &DogIqaSettings,
    segmenter: &ModelInfo,
    scorer: &ModelInfo,
) -> Result<String, EngineError> {
    check_preset("segmenter", &settings.segmenter, segmenter)?;
    check_digests("segmenter", &settings.sha256, segmenter)?;
    check_preset("scorer", &settings.scorer, scorer)?;
    check_digests("scorer", &settings.sha256, scorer)?;
    let texts = [segmenter, scorer].into_iter().flat_map(|model| {
        let digests = model.weights.iter().map(|file| &file.sha256);
        [&model.name, &model.version].into_iter().chain(digests)
    });
    Ok(format!("{VERSION}-{}", short(&fingerprint(texts))))
}

fn check_preset(key: &'static str, setting: &str, model: &ModelInfo) -> Result<(), EngineError> {
    if let ModelName::Hub(HubModel { preset: Some(preset), .. }) = ModelName::new(setting)
        && preset.name != model.name
    {
        let message = format!("{setting} was asked for, and the weights are of {}", model.name);
        return Err(weights_error(key, message));
    }
    Ok(())
}

fn check_digests(
    key: &'static str,
    pinned: &[String],
    model: &ModelInfo,
) -> Result<(), EngineError> {
    let is_pinned = |digest: &str| pinned.iter().any(|known| known.eq_ignore_ascii_case(digest));
    match model.weights.iter().find(|file| !is_pinned(&file.sha256)) {
        Some(file) if !pinned.is_empty() => {
            let message = format!(
                "{} has the digest {}, which is none of engine.dog_iqa.sha256; it is another file than was \
                 pinned, or damaged",
                file.name, file.sha256
            );
            Err(weights_error(key, message))
        }
        _ => Ok(()),
    }
}

/// Makes a picture of maximum cost: the segmenter resizes every picture to the same size.
fn warm_up_pictures() -> Vec<MakeSource<Picture>> {
    vec![Arc::new(|| Picture::from_rgb(RgbImage::from_fn(256, 256, shade)))]
}

/// Makes crops of several shapes, because the shape decides the number of views.
fn warm_up_crops() -> Vec<MakeSource<Crop>> {
    let shapes = [(128, 128), (128, 256), (256, 128), (128, 384), (128, 512), (512, 128)];
    let crop = |(width, height)| -> MakeSource<Crop> {
        Arc::new(move || Crop {
            source: CropSource::Whole,
            pixels: Arc::new(RgbImage::from_fn(width, height, shade)),
        })
    };
    shapes.map(crop).into()
}

fn shade(x: u32, y: u32) -> Rgb<u8> {
    let wave = |period: u32| (x * y / 8 + (x + y) * 255 / period).to_le_bytes()[0];
    Rgb([wave(100), wave(37), wave(11)])
}
