//! The paper's engine: SAM 2 segments and mPLUG-Owl3 rates, or another network or a server in its
//! place.

use std::fmt::Display;
use std::sync::Arc;

use image::{Rgb, RgbImage};

use crate::checkpoints::Sam2Checkpoint;
use crate::checkpoints::hub::{HubModel, ModelName, locate};
use crate::engine::adapters::network_scorer::{Network, NetworkRatings, NetworkScorer};
use crate::engine::adapters::sam2::Sam2Segmenter;
use crate::engine::engine_lanes::{ScorerPlan, SharedPlan};
use crate::engine::error::EngineError;
use crate::engine::info::{ModelInfo, NetworkSettings};
use crate::engine::lane::LaneDevice;
use crate::engine::memory::{self, SmallestBatches};
use crate::engine::model::{Model, ScorerModel, SegmenterModel};
use crate::engine::model_lane::ModelPlan;
use crate::engine::scorers::RatedBy;
use crate::engine::server::HttpScorer;
use crate::engine::settings::{DogIqaSettings, LaneSettings, Settings};
use crate::engine::warm_up::{MakeSource, PeakMemory};
use crate::imaging::{Crop, CropSource, Picture};
use crate::method::{Standard, fingerprint, short};
use crate::models::device::DeviceId;
use crate::models::mplug_owl3::{CropContext, LevelSource};

/// Name of the engine in events.
pub(crate) const NAME: &str = "dog-iqa";
/// Increased whenever the answer of the same models for the same picture may change.
const VERSION: &str = "1";

/// The name of the segmenter without weights.
const CLASSIC: &str = "classic";
/// The name of the scorer on a server.
const HTTP: &str = "http";

/// A plan for opening all models on every device. Checks everything that needs no weights in
/// memory.
pub(crate) struct DogIqaPlan {
    pub(crate) segmenter: SegmenterPlan,
    /// Each scorer once, in the order of the setting.
    pub(crate) scorers: Vec<SharedPlan<NetworkScorer>>,
    /// Settings that the scorers' networks run with.
    pub(crate) scorer_settings: NetworkSettings,
    /// Upper bound of the machine's memory that all models use, in bytes.
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
    /// Finds all checkpoints and compares them with the memory of the devices.
    ///
    /// # Errors
    /// Fails if a model is not named, is missing or is of another kind, or if a device cannot hold
    /// all.
    pub(crate) fn new(settings: &Settings, standard: &Standard) -> Result<Self, EngineError> {
        let dog_iqa = &settings.dog_iqa;
        let unnamed =
            [("segmenter", dog_iqa.segmenter.is_empty()), ("scorer", dog_iqa.scorer.is_empty())];
        if let Some((key, _)) = unnamed.into_iter().find(|(_, is_empty)| *is_empty) {
            return Err(EngineError::NoWeights { key });
        }
        dog_iqa.scorer.check().map_err(scorer_error)?;
        if dog_iqa.scorer.has_ensemble() && dog_iqa.rating.level == LevelSource::Generated {
            let message =
                "an ensemble has no answer; rating.level = \"generated\" needs one scorer";
            return Err(scorer_error(message));
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
        let mut needs = vec![of_segmenter];
        let mut scorers = Vec::new();
        let mut scorer_settings = NetworkSettings::default();
        let [of_whole, of_objects] = dog_iqa.scorer.parts().map(RatedBy::weighted);
        for model in dog_iqa.scorer.models() {
            let weight = |part: &[(&str, f64)]| {
                part.iter().find(|(name, _)| *name == model).map_or(0.0, |(_, weight)| *weight)
            };
            let (global, objects) = (weight(&of_whole), weight(&of_objects));
            let (plan, of_scorer) = plan_scorer(model, settings, standard, &places)?;
            let shows_two = objects > 0.0 && dog_iqa.rating.crop_context == CropContext::Whole;
            if shows_two && of_scorer.network != Some(Network::MplugOwl3) {
                return Err(EngineError::OneImage { scorer: model.to_owned() });
            }
            match of_scorer.network {
                Some(Network::Qwen3_5Vl) => scorer_settings.q_realign = Some(dog_iqa.q_realign),
                Some(Network::ClipIqa) => scorer_settings.clip_iqa = Some(dog_iqa.clip_iqa),
                Some(Network::MplugOwl3) | None => {}
            }
            needs.push(of_scorer);
            scorers.push(SharedPlan { plan, global, objects });
        }
        let batches = SmallestBatches {
            points: dog_iqa.masks.points_per_batch,
            segmenter_width: needs[0].width,
            scorer_widths: needs[1..].iter().map(|of_scorer| of_scorer.width).collect(),
        };
        let weights = needs.iter().map(|of_model| of_model.weights).sum();
        let requests: u64 = needs.iter().map(|of_model| of_model.requests).sum();
        let memory = memory::check(&ids, weights, &batches)?.saturating_add(requests);
        Ok(Self { segmenter, scorers, scorer_settings, memory })
    }
}

/// The devices of all models.
struct Places {
    devices: Vec<(DeviceId, PeakMemory)>,
    is_warmed_up: bool,
}

/// The memory that a model needs, nothing if it has no weights, and its network.
#[derive(Default)]
struct Needs {
    /// Bytes of its weights.
    weights: u64,
    /// Bytes of a number while it runs.
    width: usize,
    /// Bytes of requests to a server.
    requests: u64,
    /// The network of a scorer in this process.
    network: Option<Network>,
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
    Ok((SegmenterPlan::Sam2(plan), Needs { weights, width, ..Needs::default() }))
}

fn plan_scorer(
    model: &str,
    settings: &Settings,
    standard: &Standard,
    places: &Places,
) -> Result<(ScorerPlan<NetworkScorer>, Needs), EngineError> {
    let dog_iqa = &settings.dog_iqa;
    if model == HTTP {
        let server = HttpScorer::new(&dog_iqa.http, standard);
        let server = server.map_err(|message| weights_error("http", message))?;
        let needs = Needs { requests: server.memory(), ..Needs::default() };
        return Ok((ScorerPlan::Server(Arc::new(server)), needs));
    }
    let dtype = dog_iqa.dtype.on(places.devices[0].0);
    let path = locate(model).map_err(scorer_error)?;
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
    let (width, network) = (dtype.size_in_bytes(), Some(network));
    let needs = Needs { weights, width, network, ..Needs::default() };
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

/// Compares every model with its preset, and its files with the digests that the settings pin.
///
/// # Errors
/// Fails if the weights are not those of the named preset, or not those that the settings pin.
pub(crate) fn check_files(
    settings: &DogIqaSettings,
    segmenter: &ModelInfo,
    scorers: &[&ModelInfo],
) -> Result<(), EngineError> {
    let scorer_names = settings.scorer.models();
    let of_scorers =
        scorer_names.into_iter().zip(scorers).map(|(name, model)| ("scorer", name, *model));
    let of_segmenter = ("segmenter", settings.segmenter.as_str(), segmenter);
    for (key, name, model) in std::iter::once(of_segmenter).chain(of_scorers) {
        check_preset(key, name, model)?;
        check_digests(key, &settings.sha256, model)?;
    }
    Ok(())
}

/// Returns a version that differs whenever a model, its parameters or its weights do.
pub(crate) fn version(segmenter: &ModelInfo, scorer: &ModelInfo) -> String {
    let texts = [segmenter, scorer].into_iter().flat_map(|model| {
        let digests = model.weights.iter().map(|file| &file.sha256);
        [&model.name, &model.version].into_iter().chain(digests)
    });
    format!("{VERSION}-{}", short(&fingerprint(texts)))
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
        // An object: its prompt is the longest, and may show the whole picture, too.
        Arc::new(move || Crop {
            source: CropSource::Region(0),
            pixels: Arc::new(RgbImage::from_fn(width, height, shade)),
            picture: Some(Arc::new(RgbImage::from_fn(128, 128, shade))),
        })
    };
    shapes.map(crop).into()
}

fn shade(x: u32, y: u32) -> Rgb<u8> {
    let wave = |period: u32| (x * y / 8 + (x + y) * 255 / period).to_le_bytes()[0];
    Rgb([wave(100), wave(37), wave(11)])
}
