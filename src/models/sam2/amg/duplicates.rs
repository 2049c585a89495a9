//! Removes small regions, and duplicates among the masks of all crops of an image.

use crate::method::{MaskError, Rle};
use crate::models::sam2::amg::generated_mask::GeneratedMask;
use crate::models::sam2::amg::nms::non_maximum_suppression;
use crate::models::sam2::amg::small_regions::{CleanedMask, clean_masks, corners};

/// If the boxes of masks overlap by more than the threshold, keeps those of the smallest crop;
/// among equal crops, the earliest.
pub(crate) fn keep_smallest_crops(masks: Vec<GeneratedMask>, threshold: f64) -> Vec<GeneratedMask> {
    let boxes: Vec<[f32; 4]> =
        masks.iter().map(|mask| mask.corners.map(|corner| corner as f32)).collect();
    let score = |mask: &GeneratedMask| {
        1.0 / (f64::from(mask.crop.width()) * f64::from(mask.crop.height())) as f32
    };
    let scores: Vec<f32> = masks.iter().map(score).collect();
    let mut remaining: Vec<Option<GeneratedMask>> = masks.into_iter().map(Some).collect();
    let kept = non_maximum_suppression(&boxes, &scores, threshold);
    kept.into_iter().filter_map(|index| remaining[index].take()).collect()
}

/// Removes holes and islands of fewer than `area_px` pixels, and the duplicates that this creates.
pub(crate) fn without_small_regions(
    mut masks: Vec<GeneratedMask>,
    area_px: u32,
    threshold: f64,
) -> Result<Vec<GeneratedMask>, MaskError> {
    let rles: Vec<Rle> = masks.iter().map(|mask| mask.rle.clone()).collect();
    let take = |CleanedMask { index, changed }: CleanedMask| {
        let mask = &mut masks[index];
        if let Some(rle) = changed {
            mask.corners = corners(&rle);
            mask.rle = rle;
        }
        mask.clone()
    };
    Ok(clean_masks(&rles, area_px, threshold)?.into_iter().map(take).collect())
}
