//! Ablations that need other ratings: other standards, crops or numbers of levels, over the masks
//! that the first run found.

use anyhow::{Context, bail};

use crate::cli::commands::evaluate::arguments::{Ablate, Args};
use crate::cli::commands::evaluate::scoring::{ImagesToScore, ScoredImages, score_images};
use crate::cli::journey_setup::open_journey_with_masks;
use crate::cli::saved_events::EventFile;
use crate::cli::terminal::{print_status, with_causes};
use crate::config::Settings;
use crate::engine::{EngineError, RecordedMasks};
use crate::event::{ImageReference, QualityEvent};
use crate::imaging::{CropMargin, CropMode};
use crate::method::{Mask, Policies, RawMask, RegionKind, StandardForm};
use crate::models::mplug_owl3::CropContext;

/// A setting that differs from the first run.
struct Variation {
    name: String,
    settings: Settings,
}

/// Rates the images again by each variation. The result has one name and list of events each. With
/// `save`, the events of each are in a file next to that one.
///
/// # Errors
/// Fails if an event has no masks, if an engine cannot be opened, or if a file cannot be written.
pub(crate) async fn rate_variations(
    args: &Args,
    references: &[ImageReference],
    events: &[QualityEvent],
    settings: &Settings,
) -> anyhow::Result<Vec<(String, ScoredImages)>> {
    let variations: Vec<Variation> =
        args.ablate.iter().flat_map(|ablate| variations(*ablate, settings)).collect();
    if variations.is_empty() {
        return Ok(Vec::new());
    }
    let masks = recorded_masks(events)?;
    let mut rated = Vec::new();
    for Variation { name, settings } in variations {
        print_status(&format!("rating again: {name}"));
        let journey = match open_journey_with_masks(&settings, masks.clone()).await {
            Ok(journey) => journey,
            Err(error) if is_of_one_image(&error) => {
                print_status(&format!("not rated again: {name}: {}", with_causes(&error)));
                continue;
            }
            Err(error) => return Err(error.context(name)),
        };
        let file = match &args.save {
            Some(path) => {
                let extension = format!("{}.jsonl", name.replace(' ', "-"));
                Some(EventFile::open(&path.with_extension(extension), args.resume)?)
            }
            None => None,
        };
        let images = ImagesToScore { references: references.to_vec(), unreadable: 0 };
        rated.push((name, score_images(&journey, images, file).await?));
    }
    Ok(rated)
}

fn variations(ablate: Ablate, first: &Settings) -> Vec<Variation> {
    // Recorded masks have the size of the image.
    let mut base = first.clone();
    base.method.regions.side_max = 0;
    base.pipeline.masks_in_events = false;
    // The first run has measured and judged the images.
    base.pipeline.measures.clear();
    base.pipeline.reasons = false;
    base.method.policies = Policies::default();
    match ablate {
        Ablate::Aggregation => Vec::new(),
        Ablate::Standard => [StandardForm::Number, StandardForm::Sentence, StandardForm::Word]
            .into_iter()
            .map(|form| {
                let mut settings = base.clone();
                settings.method.standard.form = form;
                Variation { name: format!("standard {}", form.name()), settings }
            })
            .collect(),
        Ablate::Crop => [
            ("mask", CropMode::Mask, 0.0, CropContext::None),
            ("bounding-box", CropMode::BoundingBox, 0.0, CropContext::None),
            ("margin-0.25", CropMode::BoundingBox, 0.25, CropContext::None),
            ("next-to-whole", CropMode::BoundingBox, 0.0, CropContext::Whole),
        ]
        .into_iter()
        .filter_map(|(name, crop, margin, context)| {
            let mut settings = base.clone();
            settings.pipeline.crop = crop;
            settings.pipeline.crop_margin = CropMargin::try_from(margin).expect("it is small");
            settings.engine.dog_iqa.rating.crop_context = context;
            // The classic engine has no prompt, and a prompt of the authors' program one image.
            let is_possible = context == CropContext::None
                || settings.engine.is_dog_iqa() && settings.engine.dog_iqa.rating.check().is_ok();
            is_possible.then(|| Variation { name: format!("crop {name}"), settings })
        })
        .collect(),
        Ablate::Levels => [3, 5, 7, 9]
            .into_iter()
            .map(|levels| {
                let mut settings = base.clone();
                settings.method.standard.levels = levels;
                Variation { name: format!("{levels} levels"), settings }
            })
            .collect(),
    }
}

/// Returns true if the scorer cannot read an object next to the whole image.
fn is_of_one_image(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref::<EngineError>(), Some(EngineError::OneImage { .. }))
    })
}

/// Returns the masks of all events, by image.
fn recorded_masks(events: &[QualityEvent]) -> anyhow::Result<RecordedMasks> {
    let name = events.first().map(|event| event.engine.segmenter.clone()).unwrap_or_default();
    let mut masks = RecordedMasks::new(name);
    for event in events {
        let mut of_event = Vec::new();
        let objects = event.objects.iter().filter(|object| object.kind == RegionKind::Object);
        for object in objects {
            let id = &event.reference.id;
            let Some(rle) = object.mask.clone() else {
                bail!("the event of {id} has no masks; score with pipeline.masks_in_events = true");
            };
            of_event.push(RawMask {
                mask: Mask::new(rle).with_context(|| format!("a mask of {id}"))?,
                predicted_iou: object.predicted_iou,
                stability_score: object.stability_score,
            });
        }
        let mut sha256 = [0; 32];
        hex::decode_to_slice(&event.image.sha256, &mut sha256)
            .with_context(|| format!("image.sha256 of {}", event.reference.id))?;
        masks.add(sha256, of_event);
    }
    Ok(masks)
}
