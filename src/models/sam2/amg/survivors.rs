//! Which of an image's masks stay when all of its crops have been looked at.

use super::generate::Found;
use super::nms::non_maximum_suppression;
use super::small_regions::{Cleaned, clean, corners};
use crate::method::{MaskError, Rle};

/// Of masks whose boxes overlap more than the threshold those of the smaller crop; of equal crops the
/// earlier.
pub(super) fn of_smaller_crops(found: Vec<Found>, threshold: f64) -> Vec<Found> {
    let boxes: Vec<[f32; 4]> =
        found.iter().map(|mask| mask.corners.map(|place| place as f32)).collect();
    let score =
        |mask: &Found| 1.0 / (f64::from(mask.crop.width()) * f64::from(mask.crop.height())) as f32;
    let scores: Vec<f32> = found.iter().map(score).collect();
    let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
    let kept = non_maximum_suppression(&boxes, &scores, threshold);
    kept.into_iter().filter_map(|index| found[index].take()).collect()
}

/// Rid of holes and islands of fewer than `area_px` pixels, and of the duplicates that arise.
pub(super) fn cleaned(
    mut found: Vec<Found>,
    area_px: u32,
    threshold: f64,
) -> Result<Vec<Found>, MaskError> {
    let rles: Vec<Rle> = found.iter().map(|mask| mask.rle.clone()).collect();
    let take = |Cleaned { index, changed }: Cleaned| {
        let mask = &mut found[index];
        if let Some(rle) = changed {
            mask.corners = corners(&rle);
            mask.rle = rle;
        }
        mask.clone()
    };
    Ok(clean(&rles, area_px, threshold)?.into_iter().map(take).collect())
}
