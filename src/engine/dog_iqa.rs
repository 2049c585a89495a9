//! The paper's engine: SAM 2 cuts, mPLUG-Owl3 rates.

use std::sync::Arc;

use crate::checkpoints::hub::{HubModel, ModelName, locate};
use crate::checkpoints::{MplugOwl3Checkpoint, Sam2Checkpoint};
use crate::engine::handle::{EngineError, Open, Parts, Stage};
use crate::engine::memory;
use crate::engine::mplug_owl3::MplugOwl3Scorer;
use crate::engine::sam2::Sam2Segmenter;
use crate::engine::settings::{DogIqaSettings, Settings};
use crate::engine::traits::{ModelInfo, Scorer, Segmenter};
use crate::imaging::{Crop, CropSource, Picture};
use crate::method::{Standard, fingerprint, short};
use crate::models::ModelInput;
use crate::models::device::DeviceId as Place;

/// Name of the engine in events.
const NAME: &str = "dog-iqa";
/// Raised whenever the same picture may get another answer from the same models.
const VERSION: &str = "1";

/// What opens both models on every device, after everything was looked at that can be without reading weights.
///
/// # Errors
/// A model that is not named, not there, or of another kind; devices that cannot hold both.
pub(super) fn parts(settings: &Settings, standard: &Standard) -> Result<Parts, EngineError> {
    let dog_iqa = &settings.dog_iqa;
    for (key, model) in [("segmenter", &dog_iqa.segmenter), ("scorer", &dog_iqa.scorer)] {
        if model.is_empty() {
            return Err(EngineError::NoWeights { key });
        }
    }
    dog_iqa.masks.check().map_err(|message| failed("masks", &message))?;
    let places = dog_iqa.device.places();
    let kind = places[0];
    let dtype = dog_iqa.dtype.on(kind);
    let segmenter = locate(&dog_iqa.segmenter).map_err(|error| failed("segmenter", &error))?;
    let scorer = locate(&dog_iqa.scorer).map_err(|error| failed("scorer", &error))?;
    let sam2 = Sam2Checkpoint::open(&segmenter).map_err(|error| failed("segmenter", &error))?;
    let owl = MplugOwl3Checkpoint::open(&scorer).map_err(|error| failed("scorer", &error))?;
    let memory =
        memory::check(&places, sam2.weights().bytes_in(dtype) + owl.weights().bytes_in(dtype))?;

    let open_segmenter = |place: Place| -> Open<dyn Segmenter> {
        let (path, masks) = (segmenter.clone(), dog_iqa.masks.clone());
        Box::new(move || {
            let device = place.open()?;
            let model = Sam2Segmenter::open(&path, masks, dtype, &device);
            Ok(Arc::new(model.map_err(|error| failed("segmenter", &error))?))
        })
    };
    let open_scorer = |place: Place| -> Open<dyn Scorer> {
        let (path, standard, rating) = (scorer.clone(), standard.clone(), dog_iqa.rating.clone());
        Box::new(move || {
            let device = place.open()?;
            let model = MplugOwl3Scorer::open(&path, &standard, rating, (dtype, &device));
            Ok(Arc::new(model.map_err(|error| failed("scorer", &error))?))
        })
    };
    let is_warmed_up = dog_iqa.warm_up.is_wanted_on(kind);
    // A device that is named twice has two lanes, each with figures of its own.
    let name_of = |index: usize| {
        let before = places[..index].iter().filter(|place| **place == places[index]).count();
        if before == 0 {
            places[index].to_string()
        } else {
            format!("{}#{}", places[index], before + 1)
        }
    };
    let on_each = || places.iter().enumerate();
    let checked = dog_iqa.clone();
    Ok(Parts {
        name: NAME.to_owned(),
        segment: Stage {
            limits: settings.segment.limits_on(kind),
            models: on_each()
                .map(|(index, place)| (name_of(index), open_segmenter(*place)))
                .collect(),
            largest: is_warmed_up.then_some(largest_picture),
        },
        score: Stage {
            limits: settings.score.limits_on(kind),
            models: on_each().map(|(index, place)| (name_of(index), open_scorer(*place))).collect(),
            largest: is_warmed_up.then_some(largest_crop),
        },
        version: Box::new(move |models| version(&checked, models)),
        memory,
    })
}

fn failed(key: &'static str, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Weights { key, message: error.to_string() }
}

/// Differs whenever a model, its parameters or its weights do. Refuses weights that are not those that were
/// asked for.
fn version(settings: &DogIqaSettings, models: [&ModelInfo; 2]) -> Result<String, EngineError> {
    let asked = [("segmenter", &settings.segmenter), ("scorer", &settings.scorer)];
    for ((key, name), model) in asked.into_iter().zip(models) {
        if let ModelName::Hub(HubModel { preset: Some(preset), .. }) = ModelName::new(name)
            && preset.name != model.name
        {
            let message = format!("{name} was asked for, and the weights are of {}", model.name);
            return Err(EngineError::Weights { key, message });
        }
        let is_pinned = |digest: &String| {
            settings.sha256.iter().any(|pinned| pinned.eq_ignore_ascii_case(digest))
        };
        let stranger = model.weights.iter().find(|file| !is_pinned(&file.sha256));
        if let Some(file) = stranger.filter(|_| !settings.sha256.is_empty()) {
            let message = format!(
                "{} has the digest {}, which is none of engine.dog_iqa.sha256; it is another file than was \
                 pinned, or damaged",
                file.name, file.sha256
            );
            return Err(EngineError::Weights { key, message });
        }
    }
    let texts = models.into_iter().flat_map(|model| {
        let digests = model.weights.iter().map(|file| &file.sha256);
        [&model.name, &model.version].into_iter().chain(digests)
    });
    Ok(format!("{VERSION}-{}", short(&fingerprint(texts))))
}

/// A picture for the dearest input of a segmenter: its square is filled whatever the size.
fn largest_picture(segmenter: &dyn Segmenter) -> Result<ModelInput, EngineError> {
    let picture = Picture::from_rgb(image::RgbImage::from_fn(256, 256, shade));
    segmenter.prepare(&picture).map_err(|error| failed("warm_up", &error))
}

/// The crop whose views cost most; how it is cut depends on its shape.
fn largest_crop(scorer: &dyn Scorer) -> Result<ModelInput, EngineError> {
    let shapes = [(128, 128), (128, 256), (256, 128), (128, 384), (128, 512), (512, 128)];
    let crop = |(width, height)| Crop {
        source: CropSource::Whole,
        pixels: Arc::new(image::RgbImage::from_fn(width, height, shade)),
    };
    let inputs = shapes.into_iter().map(|shape| scorer.prepare(&crop(shape)));
    let inputs = inputs.collect::<Result<Vec<_>, _>>();
    let inputs = inputs.map_err(|error| failed("warm_up", &error))?;
    Ok(inputs.into_iter().max_by_key(ModelInput::cost).expect("there are shapes"))
}

fn shade(x: u32, y: u32) -> image::Rgb<u8> {
    let wave = |period: u32| (x * y / 8 + (x + y) * 255 / period).to_le_bytes()[0];
    image::Rgb([wave(100), wave(37), wave(11)])
}
