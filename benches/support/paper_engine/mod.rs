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

use dog_iqa::models::mplug_owl3::{Config, Release};
use dog_iqa::models::sam2::Size;
use dog_iqa::models::sam2::amg::{AmgPreset, AmgSettings};

use rating_prompt::{RatingGigaFlop, paper_prompt};

/// GFLOP of one click of SAM 2's mask decoder in its plain form.
const GIGA_FLOP_PER_CLICK: f64 = 3.64;

/// Returns mask settings whose thresholds every mask passes. With random weights, the published
/// thresholds would let an arbitrary number of masks pass.
pub(crate) fn masks_without_thresholds(points_per_side: usize) -> AmgSettings {
    AmgSettings {
        points_per_side,
        pred_iou_thresh: 0.0,
        stability_score_thresh: 0.0,
        ..AmgPreset::DogIqa.settings()
    }
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
