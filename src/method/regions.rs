//! Selects the regions to score from raw masks: Algorithm 1 of the paper.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::method::bounds::fraction;
use crate::method::masks::{Mask, MaskError, Rle};

/// The selection of masks to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionSettings {
    /// Minimum area of a scored mask as a share of the image, from 0 to 1; the paper's threshold
    /// `t`.
    #[serde(deserialize_with = "fraction")]
    pub area_min_fraction: f64,
    /// Minimum area of a scored mask in pixels, regardless of `area_min_fraction`. Keeps tiny
    /// images from having regions.
    pub area_min_px: u64,
    /// Maximum number of regions per image. If there are more masks, the largest are kept, in the
    /// segmenter's order.
    pub regions_max: usize,
    /// Maximum side in pixels of the picture that is segmented. A larger picture is shrunk for the
    /// segmenter, and its masks are enlarged again; the scorer always reads the original pixels. 0
    /// sets no limit.
    pub side_max: u32,
}

impl Default for RegionSettings {
    fn default() -> Self {
        Self { area_min_fraction: 0.01, area_min_px: 64, regions_max: 256, side_max: 0 }
    }
}

/// A mask as a segmenter returns it, with quality estimates if the model has them.
#[derive(Debug, Clone, PartialEq)]
pub struct RawMask {
    /// Pixels, in the frame of the segmented picture.
    pub mask: Mask,
    /// The model's estimate of the mask's intersection over union.
    pub predicted_iou: Option<f32>,
    /// Stability of the mask when the model's threshold moves, from 0 to 1.
    pub stability_score: Option<f32>,
}

/// The origin of a region: a mask of the segmenter, or the pixels without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegionKind {
    /// A mask of the segmenter.
    Object,
    /// The pixels that no kept mask covers.
    Remainder,
}

/// A region to score.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Object or remainder.
    pub kind: RegionKind,
    /// Pixels of the region.
    pub mask: Mask,
    /// The segmenter's estimate of the mask's intersection over union, if it has one.
    pub predicted_iou: Option<f32>,
    /// The segmenter's stability score, if it has one.
    pub stability_score: Option<f32>,
}

/// The regions of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    /// Width of the image in pixels.
    pub width: u32,
    /// Height of the image in pixels.
    pub height: u32,
    /// The kept masks in the segmenter's order, then the remainder if it is large enough.
    pub regions: Vec<Region>,
    /// Share of the image that the regions cover, in 0..=1.
    pub coverage: f64,
    /// True if the image was not segmented.
    pub is_skipped: bool,
}

impl Segmentation {
    /// Returns the segmentation of an image that is not segmented.
    pub fn skipped(width: u32, height: u32) -> Self {
        Self { width, height, regions: Vec::new(), coverage: 0.0, is_skipped: true }
    }
}

/// Enlarges the masks of a shrunken picture from frame `from` to the frame of the original.
///
/// # Errors
/// Fails if the frame of a mask is not `from`, if the new frame is invalid, or if an enlarged mask
/// has no pixels.
pub fn enlarge(
    masks: Vec<RawMask>,
    from: (u32, u32),
    (width, height): (u32, u32),
) -> Result<Vec<RawMask>, MaskError> {
    let enlarged = |raw: RawMask| {
        let rle = raw.mask.rle();
        let found = (rle.width(), rle.height());
        if found != from {
            return Err(MaskError::Frame { found, expected: from });
        }
        Ok(RawMask { mask: Mask::new(rle.resized(width, height)?)?, ..raw })
    };
    masks.into_iter().map(enlarged).collect()
}

/// Runs Algorithm 1. Keeps the masks whose area reaches the threshold, and appends the remaining
/// pixels as one more region if they reach it too.
///
/// # Errors
/// Fails if the frame of a mask is not `width × height`, or if that frame is invalid.
pub fn select_regions(
    width: u32,
    height: u32,
    raw_masks: Vec<RawMask>,
    settings: &RegionSettings,
) -> Result<Segmentation, MaskError> {
    let frame_px = u64::from(width) * u64::from(height);
    let threshold_px =
        (settings.area_min_fraction * frame_px as f64).max(settings.area_min_px as f64);
    let is_large = |mask: &Mask| mask.area_px() as f64 >= threshold_px;

    let mut kept = raw_masks;
    kept.retain(|raw| is_large(&raw.mask));
    keep_largest(&mut kept, settings.regions_max, |raw| raw.mask.area_px());

    let union = Rle::union(width, height, kept.iter().map(|raw| raw.mask.rle()))?;
    let mut covered_px = union.area();
    let mut regions: Vec<Region> = kept.into_iter().map(Region::object).collect();
    if let Ok(remainder) = Mask::new(union.complement())
        && is_large(&remainder)
        && regions.len() < settings.regions_max
    {
        covered_px += remainder.area_px();
        regions.push(Region::remainder(remainder));
    }
    let coverage = covered_px as f64 / frame_px as f64;
    Ok(Segmentation { width, height, regions, coverage, is_skipped: false })
}

/// Keeps the `count_max` largest masks in their order. If two masks have equal areas, drops the
/// later one.
pub(crate) fn keep_largest<T>(masks: &mut Vec<T>, count_max: usize, area_px: impl Fn(&T) -> u64) {
    if masks.len() <= count_max {
        return;
    }
    let areas: Vec<u64> = masks.iter().map(area_px).collect();
    let mut by_area: Vec<usize> = (0..masks.len()).collect();
    by_area.sort_by_key(|&index| Reverse(areas[index]));
    let mut is_kept = vec![false; masks.len()];
    for &index in &by_area[..count_max] {
        is_kept[index] = true;
    }
    let mut flags = is_kept.into_iter();
    masks.retain(|_| flags.next().unwrap_or(false));
}

impl Region {
    fn object(raw: RawMask) -> Self {
        let RawMask { mask, predicted_iou, stability_score } = raw;
        Self { kind: RegionKind::Object, mask, predicted_iou, stability_score }
    }

    fn remainder(mask: Mask) -> Self {
        Self { kind: RegionKind::Remainder, mask, predicted_iou: None, stability_score: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(width: u32, height: u32, is_set: impl Fn(u32, u32) -> bool) -> RawMask {
        let rle = Rle::from_row_major(width, height, is_set).unwrap();
        RawMask { mask: Mask::new(rle).unwrap(), predicted_iou: Some(0.9), stability_score: None }
    }

    fn settings(area_min_fraction: f64, area_min_px: u64) -> RegionSettings {
        RegionSettings { area_min_fraction, area_min_px, ..RegionSettings::default() }
    }

    fn kinds(segmentation: &Segmentation) -> Vec<(RegionKind, u64)> {
        segmentation.regions.iter().map(|region| (region.kind, region.mask.area_px())).collect()
    }

    #[test]
    fn masks_below_the_threshold_join_the_remainder() {
        let masks = vec![
            raw(10, 10, |x, _| x < 3),
            raw(10, 10, |x, y| x == 5 && y < 9),
            raw(10, 10, |x, y| x == 9 && y == 9),
        ];
        let result = select_regions(10, 10, masks, &settings(0.1, 1)).unwrap();
        assert_eq!(kinds(&result), [(RegionKind::Object, 30), (RegionKind::Remainder, 70)]);
        assert!((result.coverage - 1.0).abs() < 1e-15);
        assert_eq!(result.regions[0].predicted_iou, Some(0.9));
        assert_eq!(result.regions[1].predicted_iou, None);
    }

    #[test]
    fn a_mask_of_exactly_the_threshold_is_kept() {
        let masks = vec![raw(10, 10, |x, _| x == 0)];
        let result = select_regions(10, 10, masks, &settings(0.1, 1)).unwrap();
        assert_eq!(kinds(&result), [(RegionKind::Object, 10), (RegionKind::Remainder, 90)]);
    }

    #[test]
    fn a_remainder_below_the_threshold_is_dropped() {
        let masks = vec![raw(10, 10, |x, y| x < 9 || y < 5), raw(10, 10, |x, _| x < 4)];
        let result = select_regions(10, 10, masks, &settings(0.1, 1)).unwrap();
        assert_eq!(kinds(&result), [(RegionKind::Object, 95), (RegionKind::Object, 40)]);
        assert!((result.coverage - 0.95).abs() < 1e-15);
    }

    #[test]
    fn a_picture_of_one_pixel_has_no_region() {
        let result =
            select_regions(1, 1, vec![raw(1, 1, |_, _| true)], &RegionSettings::default()).unwrap();
        assert_eq!(result.regions, []);
        assert!(result.coverage == 0.0);
    }

    #[test]
    fn without_masks_the_whole_picture_is_the_remainder() {
        let result = select_regions(20, 10, Vec::new(), &RegionSettings::default()).unwrap();
        assert_eq!(kinds(&result), [(RegionKind::Remainder, 200)]);
    }

    #[test]
    fn of_too_many_masks_the_largest_are_kept_in_order() {
        let masks = (1..=5).map(|columns| raw(10, 10, move |x, _| x < columns)).rev().collect();
        let limited = RegionSettings { regions_max: 3, ..settings(0.0, 1) };
        let result = select_regions(10, 10, masks, &limited).unwrap();
        let areas: Vec<u64> = kinds(&result).into_iter().map(|(_, area)| area).collect();
        assert_eq!(areas, [50, 40, 30]);
    }

    #[test]
    fn a_mask_of_another_picture_is_refused() {
        let masks = vec![raw(10, 10, |_, _| true)];
        let result = select_regions(10, 20, masks, &settings(0.0, 1));
        assert!(matches!(result, Err(MaskError::Frame { .. })));
    }

    #[test]
    fn a_fraction_outside_its_range_is_refused() {
        for bad in ["1.5", "-0.1", "\"much\""] {
            let json = format!("{{\"area_min_fraction\": {bad}}}");
            assert!(serde_json::from_str::<RegionSettings>(&json).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Rectangles may overlap; the remainder must be exactly the pixels that no kept mask
        /// covers.
        #[test]
        fn kept_masks_and_the_remainder_have_the_reported_coverage(
            boxes in prop::collection::vec((0_u32..16, 0_u32..12, 1_u32..9, 1_u32..9), 0..8),
            area_min_px in 1_u64..30,
        ) {
            let masks: Vec<RawMask> = boxes
                .iter()
                .map(|&(left, top, w, h)| {
                    let is_inside = move |x, y| {
                        (left..left + w).contains(&x) && (top..top + h).contains(&y)
                    };
                    raw(16, 12, is_inside)
                })
                .collect();
            let kept = masks.iter().filter(|raw| raw.mask.area_px() >= area_min_px).count();
            let result = select_regions(16, 12, masks, &settings(0.0, area_min_px)).unwrap();
            let rles: Vec<&Rle> = result.regions.iter().map(|region| region.mask.rle()).collect();
            let objects = Rle::union(16, 12, rles[..kept].iter().copied()).unwrap();
            let all = Rle::union(16, 12, rles.iter().copied()).unwrap();
            prop_assert!((result.coverage - all.area() as f64 / 192.0).abs() < 1e-12);
            let uncovered = objects.complement();
            if uncovered.area() >= area_min_px {
                prop_assert_eq!(rles.last().copied(), Some(&uncovered));
                prop_assert_eq!(objects.area() + uncovered.area(), 192);
            } else {
                prop_assert_eq!(rles.len(), kept);
            }
        }
    }
}
