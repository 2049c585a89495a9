//! Holes and islands: connected parts of a mask, and of what is not in it, that are too small.

use super::nms::non_maximum_suppression;
use crate::method::{MaskError, Rle};

/// A row-major map of bits and its width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// Pixels of a row.
    pub width: usize,
    /// Row after row.
    pub bits: Vec<bool>,
}

/// What [`remove_small`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Parts of what is not in the mask; the surroundings count as one, too.
    Holes,
    /// Parts of the mask.
    Islands,
}

/// Fills the holes, or removes the islands, of fewer than `area_px` pixels (corners connect). Says
/// whether there were any. If all islands are small the largest stays (`remove_small_regions`).
pub fn remove_small(mask: &mut Bitmap, area_px: u32, kind: Kind) -> bool {
    let parts = Parts::of(&mask.bits, mask.width, kind == Kind::Islands);
    let is_small = |area: u32| area < area_px;
    if !parts.areas.iter().copied().any(is_small) {
        return false;
    }
    let largest = (0..parts.areas.len()).rev().max_by_key(|&part| parts.areas[part]);
    let all_are_small = parts.areas.iter().copied().all(is_small);
    for (bit, part) in mask.bits.iter_mut().zip(&parts.labels) {
        let Some(part) = part.checked_sub(1).map(|part| part as usize) else { continue };
        *bit = match kind {
            Kind::Holes => is_small(parts.areas[part]),
            Kind::Islands if all_are_small => Some(part) == largest,
            Kind::Islands => !is_small(parts.areas[part]),
        };
    }
    true
}

/// On logits of `width` a row: parts at or below the threshold of at most so many pixels come to lie 10
/// above it, then parts above it, of the map as it was, of at most so many, 10 below it
/// (`SAM2Transforms.postprocess_masks`). An area of 0 leaves holes or sprinkles as they are.
pub fn fill_holes(
    logits: &mut [f32],
    width: usize,
    threshold: f32,
    (holes_px, sprinkles_px): (u32, u32),
) {
    const SURE: f32 = 10.0;
    let is_inside: Vec<bool> = logits.iter().map(|&logit| logit > threshold).collect();
    for (is_part, area_px, value) in [(false, holes_px, SURE), (true, sprinkles_px, -SURE)] {
        if area_px == 0 {
            continue;
        }
        let parts = Parts::of(&is_inside, width, is_part);
        for (logit, &part) in logits.iter_mut().zip(&parts.labels) {
            if part > 0 && parts.areas[part as usize - 1] <= area_px {
                *logit = threshold + value;
            }
        }
    }
}

/// One mask after [`clean`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// Which of the masks it was.
    pub index: usize,
    /// Its pixels, if they have changed.
    pub changed: Option<Rle>,
}

/// Rids finished masks of holes and islands smaller than `area_px`, then drops those that have become
/// duplicates: masks that did not change are better (`postprocess_small_regions`).
///
/// # Errors
/// A mask that is none.
pub fn clean(masks: &[Rle], area_px: u32, nms_threshold: f64) -> Result<Vec<Cleaned>, MaskError> {
    let mut cleaned = Vec::with_capacity(masks.len());
    let (mut boxes, mut scores) = (Vec::new(), Vec::new());
    for rle in masks {
        let bits = rle.to_row_major().into_iter().map(|bit| bit != 0).collect();
        let mut bitmap = Bitmap { width: rle.width() as usize, bits };
        let filled = remove_small(&mut bitmap, area_px, Kind::Holes);
        let rid = remove_small(&mut bitmap, area_px, Kind::Islands);
        let changed = filled || rid;
        let now = if changed {
            Rle::from_bitmap(rle.width(), rle.height(), &bitmap.bits)?
        } else {
            rle.clone()
        };
        boxes.push(corners(&now).map(|place| place as f32));
        scores.push(if changed { 0.0 } else { 1.0 });
        cleaned.push(changed.then_some(now));
    }
    let kept = non_maximum_suppression(&boxes, &scores, nms_threshold);
    Ok(kept.into_iter().map(|index| Cleaned { index, changed: cleaned[index].take() }).collect())
}

/// `[left, top, right, bottom]` of the pixels that are set, all inclusive; zeros without any
/// (`batched_mask_to_box`).
pub fn corners(rle: &Rle) -> [u32; 4] {
    rle.bbox()
        .map_or([0; 4], |bbox| [bbox.x, bbox.y, bbox.x + bbox.width - 1, bbox.y + bbox.height - 1])
}

/// Connected parts of the pixels with one value; corners connect.
struct Parts {
    /// For each pixel its part's number from 1 on; 0 for pixels of the other value.
    labels: Vec<u32>,
    /// Pixels of each part, in the order in which a scan by rows meets them.
    areas: Vec<u32>,
}

impl Parts {
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
