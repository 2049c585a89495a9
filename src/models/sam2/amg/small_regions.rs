//! Small regions of a mask: holes, which it does not contain, and islands, which it does.

use crate::method::{MaskError, Rle};
use crate::models::sam2::amg::nms::non_maximum_suppression;

/// A row-major map of bits and its width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// Pixels of a row.
    pub width: usize,
    /// The bits, row by row.
    pub bits: Vec<bool>,
}

/// The regions that [`remove_small_regions`] changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallRegionKind {
    /// Connected components outside the mask, the background included.
    Holes,
    /// Connected components of the mask.
    Islands,
}

/// Fills the holes, or removes the islands, of fewer than `area_px` pixels; pixels that touch at a
/// corner are connected. Returns true if there were any. If all islands are small, the largest is
/// kept (the reference's function of this name).
pub fn remove_small_regions(mask: &mut Bitmap, area_px: u32, kind: SmallRegionKind) -> bool {
    let components = Components::of(&mask.bits, mask.width, kind == SmallRegionKind::Islands);
    let is_small = |area: u32| area < area_px;
    if !components.areas.iter().copied().any(is_small) {
        return false;
    }
    let largest = (0..components.areas.len()).rev().max_by_key(|&index| components.areas[index]);
    let all_are_small = components.areas.iter().copied().all(is_small);
    for (bit, label) in mask.bits.iter_mut().zip(&components.labels) {
        let Some(index) = label.checked_sub(1).map(|index| index as usize) else { continue };
        *bit = match kind {
            SmallRegionKind::Holes => is_small(components.areas[index]),
            SmallRegionKind::Islands if all_are_small => Some(index) == largest,
            SmallRegionKind::Islands => !is_small(components.areas[index]),
        };
    }
    true
}

/// Fills holes of at most `hole_area_px` pixels (sets them to threshold + 10) and removes islands
/// of at most `island_area_px` (threshold − 10). Both are found on the original logits, which have
/// `width` values in a row. An area of 0 skips that step (`SAM2Transforms.postprocess_masks`).
pub fn clean_logits(
    logits: &mut [f32],
    width: usize,
    threshold: f32,
    hole_area_px: u32,
    island_area_px: u32,
) {
    const MARGIN: f32 = 10.0;
    let is_inside: Vec<bool> = logits.iter().map(|&logit| logit > threshold).collect();
    for (value, area_px, logit_of_region) in
        [(false, hole_area_px, threshold + MARGIN), (true, island_area_px, threshold - MARGIN)]
    {
        if area_px == 0 {
            continue;
        }
        let components = Components::of(&is_inside, width, value);
        for (logit, &label) in logits.iter_mut().zip(&components.labels) {
            if label > 0 && components.areas[label as usize - 1] <= area_px {
                *logit = logit_of_region;
            }
        }
    }
}

/// One mask after [`clean_masks`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanedMask {
    /// Index of the mask.
    pub index: usize,
    /// Its pixels, if they changed.
    pub changed: Option<Rle>,
}

/// Removes holes and islands of fewer than `area_px` pixels from finished masks, then drops those
/// that became duplicates; unchanged masks take precedence (`postprocess_small_regions`).
///
/// # Errors
/// Fails if a mask has an invalid size.
pub fn clean_masks(
    masks: &[Rle],
    area_px: u32,
    nms_threshold: f64,
) -> Result<Vec<CleanedMask>, MaskError> {
    let mut cleaned = Vec::with_capacity(masks.len());
    let (mut boxes, mut scores) = (Vec::new(), Vec::new());
    for rle in masks {
        let bits = rle.to_row_major().into_iter().map(|bit| bit != 0).collect();
        let mut bitmap = Bitmap { width: rle.width() as usize, bits };
        let had_holes = remove_small_regions(&mut bitmap, area_px, SmallRegionKind::Holes);
        let had_islands = remove_small_regions(&mut bitmap, area_px, SmallRegionKind::Islands);
        let changed = had_holes || had_islands;
        let result = if changed {
            Rle::from_bitmap(rle.width(), rle.height(), &bitmap.bits)?
        } else {
            rle.clone()
        };
        boxes.push(corners(&result).map(|corner| corner as f32));
        scores.push(if changed { 0.0 } else { 1.0 });
        cleaned.push(changed.then_some(result));
    }
    let kept = non_maximum_suppression(&boxes, &scores, nms_threshold);
    let take = |index: usize| CleanedMask { index, changed: cleaned[index].take() };
    Ok(kept.into_iter().map(take).collect())
}

/// Returns `[left, top, right, bottom]` of a mask's pixels, all inclusive, or zeros if there are
/// none (`batched_mask_to_box`).
pub fn corners(rle: &Rle) -> [u32; 4] {
    rle.bbox()
        .map_or([0; 4], |bbox| [bbox.x, bbox.y, bbox.x + bbox.width - 1, bbox.y + bbox.height - 1])
}

/// The connected components of the pixels with one value. Pixels that touch at a corner are
/// connected.
struct Components {
    /// For each pixel the number of its component, from 1; 0 for pixels of the other value.
    labels: Vec<u32>,
    /// Pixels of each component, in the order in which a scan by rows reaches them.
    areas: Vec<u32>,
}

impl Components {
    fn of(bits: &[bool], width: usize, value: bool) -> Self {
        let mut labels = vec![0; bits.len()];
        let mut areas = Vec::new();
        let mut open = Vec::new();
        let height = bits.len() / width;
        for start in 0..bits.len() {
            if bits[start] != value || labels[start] != 0 {
                continue;
            }
            let label = areas.len() as u32 + 1;
            let mut area = 0;
            labels[start] = label;
            open.push(start);
            while let Some(pixel) = open.pop() {
                area += 1;
                let (x, y) = (pixel % width, pixel / width);
                for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                    for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                        let near = near_y * width + near_x;
                        if bits[near] == value && labels[near] == 0 {
                            labels[near] = label;
                            open.push(near);
                        }
                    }
                }
            }
            areas.push(area);
        }
        Self { labels, areas }
    }
}
