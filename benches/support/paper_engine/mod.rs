//! Parts of the benchmarks of the paper's engine, SAM 2 with mPLUG-Owl3: checkpoints with random
//! weights, mask settings, and the arithmetic to compare the measured times with.

pub(crate) mod checkpoints;
pub(crate) mod matrix_product;
#[path = "../measure.rs"]
pub(crate) mod measure;
#[path = "../photo.rs"]
pub(crate) mod photo;
#[expect(dead_code, reason = "the benchmark of mPLUG-Owl3 uses the rest")]
#[path = "../rating_prompt.rs"]
mod rating_prompt;
mod release;

use std::sync::Arc;

use dog_iqa::imaging::{Crop, CropSource, Picture};
use dog_iqa::models::mplug_owl3::{Config, Grid, Release};
use dog_iqa::models::sam2::Size;
use dog_iqa::models::sam2::amg::{AmgPreset, AmgSettings};
use image::RgbImage;

use rating_prompt::{RatingGigaFlop, paper_prompt};
use release::release_prompt;
pub(crate) use release::{release_rating, release_standard};

/// GFLOP of one click of SAM 2's mask decoder in its plain form.
const GIGA_FLOP_PER_CLICK: f64 = 3.64;

/// Returns mask settings whose thresholds every mask passes. With random weights, the published
/// thresholds would let an arbitrary number of masks pass.
pub(crate) fn masks_without_thresholds(points_per_side: usize) -> AmgSettings {
    AmgSettings { points_per_side, ..without_thresholds(AmgPreset::DogIqa) }
}

/// Returns the parameters of a preset without the thresholds.
pub(crate) fn without_thresholds(preset: AmgPreset) -> AmgSettings {
    AmgSettings { pred_iou_thresh: 0.0, stability_score_thresh: 0.0, ..preset.settings() }
}

/// Returns the GFLOP of segmenting one image, as SAM 2's plain form counts them.
pub(crate) fn segmentation_giga_flop(size: Size, points_per_side: usize) -> f64 {
    let encoder = match size {
        Size::Tiny => 292.0,
        Size::Large => 1_820.0,
        _ => panic!("no count for this size"),
    };
    encoder + points_per_side.pow(2) as f64 * GIGA_FLOP_PER_CLICK
}

/// Returns the GFLOP of rating one crop with a reused prefix.
pub(crate) fn rating_giga_flop(release: Release) -> f64 {
    RatingGigaFlop::new(&Config::of_release(release), &paper_prompt()).with_prefix
}

/// Returns the GFLOP of rating one crop with the views and the prompt of the authors' program, and
/// a reused prefix.
pub(crate) fn release_rating_giga_flop(release: Release, grid: Grid) -> f64 {
    let prompt = release_prompt(grid, release.generation());
    RatingGigaFlop::new(&Config::of_release(release), &prompt).with_prefix
}

/// Returns a crop of the whole picture with its own copy of the pixels. The scorer computes crops
/// that share their pixels once.
pub(crate) fn copy_of(picture: &Picture) -> Crop {
    let pixels = RgbImage::clone(picture.pixels());
    Crop { source: CropSource::Region(0), pixels: Arc::new(pixels), picture: None }
}
