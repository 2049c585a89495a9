//! Selects the regions to score from raw masks: Algorithm 1 of the paper.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::method::bounds::fraction;
use crate::method::masks::{Mask, MaskError, Rle};

/// The area of the pixels that no kept mask covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemainderArea {
    /// Their number.
    Pixels,
    /// The area of the frame minus the areas of all kept masks: pixels under two masks count twice.
    Arithmetic,
}

/// The regions of an image of which no mask is large enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// The remainder, if it is large enough.
    Nothing,
    /// The whole frame, whatever its size.
    Frame,
}

/// The selection of masks to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionSettings {
    /// Minimum area of a scored mask as a share of the image, from 0 to 1: the paper's threshold
    /// `t`, which the authors' program sets to 1,000 pixels instead (`area_min_px`).
    #[serde(deserialize_with = "fraction")]
    pub area_min_fraction: f64,
    /// Minimum area of a scored mask in pixels, regardless of `area_min_fraction`. Keeps tiny
    /// images from having regions.
    pub area_min_px: u64,
    /// The area that decides whether the pixels without a mask become one more region, and its
    /// weight: `pixels`, their number, or `arithmetic`, the image's area minus the areas of all
    /// masks. The latter is the authors' and smaller where masks overlap.
    pub remainder: RemainderArea,
    /// The region of an image of which no mask is large enough: `nothing` adds none, so that the
    /// remainder is rated if it is large enough; `frame` adds the whole image, however small.
    pub when_empty: WhenEmpty,
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
        Self {
            area_min_fraction: 0.01,
            area_min_px: 64,
            remainder: RemainderArea::Pixels,
            when_empty: WhenEmpty::Nothing,
            regions_max: 256,
            side_max: 0,
        }
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

/// The origin of a region: a mask of the segmenter, the pixels without one, or the whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegionKind {
    /// A mask of the segmenter.
    Object,
    /// The pixels that no kept mask covers.
    Remainder,
    /// The whole image, because no mask was kept and the settings ask for it.
    Frame,
}

/// A region to score.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Object, remainder or frame.
    pub kind: RegionKind,
    /// Pixels of the region.
    pub mask: Mask,
    /// Area that weights the region, in pixels: that of its mask, but for a remainder by
    /// [`RemainderArea::Arithmetic`].
    pub weight_px: u64,
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
    /// The kept masks in the segmenter's order, then the remainder if it is large enough; or the
    /// frame alone.
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
/// pixels as one more region if their area, as the settings define it, reaches it too. Without a
/// kept mask, the settings may make the whole frame the only region.
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
    let is_large = |area_px: u64| area_px as f64 >= threshold_px;

    let mut kept = raw_masks;
    kept.retain(|raw| is_large(raw.mask.area_px()));
    keep_largest(&mut kept, settings.regions_max, |raw| raw.mask.area_px());

    if kept.is_empty() && settings.when_empty == WhenEmpty::Frame && settings.regions_max > 0 {
        let frame = Rle::union(width, height, [])?.complement();
        let regions = vec![Region::new(RegionKind::Frame, Mask::new(frame)?)];
        return Ok(Segmentation { width, height, regions, coverage: 1.0, is_skipped: false });
    }
    let union = Rle::union(width, height, kept.iter().map(|raw| raw.mask.rle()))?;
    let mut covered_px = union.area();
    let weight_px = match settings.remainder {
        RemainderArea::Pixels => Some(frame_px - covered_px).filter(|area_px| *area_px > 0),
        RemainderArea::Arithmetic => {
            frame_px.checked_sub(kept.iter().map(|raw| raw.mask.area_px()).sum())
        }
    };
    let mut regions: Vec<Region> = kept.into_iter().map(Region::object).collect();
    if let Some(weight_px) = weight_px.filter(|area_px| is_large(*area_px))
        && regions.len() < settings.regions_max
    {
        let complement = union.complement();
        let mask = match complement.area() {
            0 => Mask::without_pixels(width, height)?,
            _ => Mask::new(complement)?,
        };
        covered_px += mask.area_px();
        regions.push(Region { weight_px, ..Region::new(RegionKind::Remainder, mask) });
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
    /// Creates a region that is weighted by its area, without estimates of a segmenter.
    pub fn new(kind: RegionKind, mask: Mask) -> Self {
        let weight_px = mask.area_px();
        Self { kind, mask, weight_px, predicted_iou: None, stability_score: None }
    }

    fn object(raw: RawMask) -> Self {
        let RawMask { mask, predicted_iou, stability_score } = raw;
        Self { predicted_iou, stability_score, ..Self::new(RegionKind::Object, mask) }
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

    /// Corner cases of the authors' program, row by row of its description.
    mod as_released {
        use super::*;
        use crate::method::{
            AggregationSettings, LevelDistribution, MaskBonus, ObjectAssessment, assess,
        };

        /// Selects regions of a frame of 80 × 60 pixels with the authors' minimum area.
        fn select(masks: Vec<RawMask>) -> Segmentation {
            select_from(80, 60, masks, 1000)
        }

        fn select_from(
            width: u32,
            height: u32,
            masks: Vec<RawMask>,
            area_min_px: u64,
        ) -> Segmentation {
            let settings = RegionSettings {
                remainder: RemainderArea::Arithmetic,
                when_empty: WhenEmpty::Frame,
                ..settings(0.0, area_min_px)
            };
            select_regions(width, height, masks, &settings).unwrap()
        }

        fn columns(from: u32, to: u32) -> RawMask {
            raw(80, 60, move |x, _| (from..to).contains(&x))
        }

        fn weights(segmentation: &Segmentation) -> Vec<(RegionKind, u64)> {
            segmentation.regions.iter().map(|region| (region.kind, region.weight_px)).collect()
        }

        /// Rates every region 4 of 7, and returns the points for their number.
        fn bonus(segmentation: Segmentation) -> f64 {
            let four = || LevelDistribution::from_logits(&[0., 0., 0., 9., 0., 0., 0.]).unwrap();
            let settings = AggregationSettings {
                mask_bonus: MaskBonus::Each(0.1),
                ..AggregationSettings::default()
            };
            let regions = segmentation.regions.into_iter();
            let objects = regions.map(|region| ObjectAssessment { region, rating: four() });
            assess(four(), objects.collect(), &settings).segmentation_score
        }

        #[test]
        fn without_a_mask_the_frame_is_one_region_and_counts_once() {
            let none = select(Vec::new());
            assert_eq!(weights(&none), [(RegionKind::Frame, 4800)]);
            assert!((none.coverage - 1.0).abs() < 1e-15);
            assert!((bonus(none) - 0.1).abs() < 1e-15);
        }

        #[test]
        fn masks_below_the_threshold_leave_the_frame() {
            let small = select(vec![columns(0, 15), columns(20, 35)]);
            assert_eq!(weights(&small), [(RegionKind::Frame, 4800)]);
        }

        #[test]
        fn a_frame_below_the_threshold_is_still_a_region() {
            let tiny = select_from(30, 20, Vec::new(), 1000);
            assert_eq!(weights(&tiny), [(RegionKind::Frame, 600)]);
        }

        #[test]
        fn areas_beyond_the_frame_leave_no_remainder_and_divide_by_their_sum() {
            let overlapping = select(vec![columns(0, 60), columns(0, 52)]);
            let objects = [(RegionKind::Object, 3600), (RegionKind::Object, 3120)];
            assert_eq!(weights(&overlapping), objects);
            assert!((overlapping.coverage - 0.75).abs() < 1e-15);
            let rating = |logits: [f64; 2]| LevelDistribution::from_logits(&logits).unwrap();
            let rated = overlapping.regions.into_iter().zip([[9.0, 0.0], [0.0, 9.0]]);
            let objects =
                rated.map(|(region, logits)| ObjectAssessment { region, rating: rating(logits) });
            let settings = AggregationSettings::default();
            let local = assess(rating([9.0, 0.0]), objects.collect(), &settings).local.unwrap();
            assert!((local - (3600.0 + 2.0 * 3120.0) / 6720.0).abs() < 1e-12, "{local}");
        }

        /// In the program's astronaut the complement has 28,736 pixels and the arithmetic −50,833.
        #[test]
        fn a_large_complement_is_dropped_if_the_arithmetic_is_small() {
            for count in [2, 5] {
                let overlapping = select(vec![columns(0, 35); count]);
                let objects = vec![(RegionKind::Object, 2100); count];
                assert_eq!(weights(&overlapping), objects, "2,700 pixels have no mask");
            }
        }

        /// As in the program's chelsea.
        #[test]
        fn a_remainder_may_weigh_less_than_its_pixels() {
            let overlapping = select(vec![columns(0, 30), columns(10, 30)]);
            let remainder = &overlapping.regions[2];
            assert_eq!((remainder.kind, remainder.weight_px), (RegionKind::Remainder, 1800));
            assert_eq!(remainder.mask.area_px(), 3000);
        }

        #[test]
        fn the_same_mask_twice_counts_twice() {
            let twice = select(vec![columns(0, 20), columns(0, 20)]);
            let expected = [
                (RegionKind::Object, 1200),
                (RegionKind::Object, 1200),
                (RegionKind::Remainder, 2400),
            ];
            assert_eq!(weights(&twice), expected);
            assert!((bonus(twice) - 0.3).abs() < 1e-15);
        }

        #[test]
        fn components_share_a_box_and_a_hole_belongs_to_the_remainder() {
            let is_ring = |x: u32, y: u32| x < 40 && !((10..20).contains(&x) && y < 30);
            let parts = raw(80, 60, move |x, y| is_ring(x, y) || (x == 79 && y == 59));
            let result = select(vec![parts]);
            let [object, remainder] = &result.regions[..] else { panic!("{result:?}") };
            let bbox = object.mask.bbox();
            assert_eq!((bbox.width, bbox.height), (80, 60), "both components are in one box");
            let area_px = 40 * 60 - 300 + 1;
            assert_eq!((object.weight_px, remainder.weight_px), (area_px, 4800 - area_px));
            let bitmap = remainder.mask.rle().to_row_major();
            assert_eq!(bitmap[80 * 5 + 15], 1, "the hole is in the remainder");
        }

        #[test]
        fn a_covered_frame_without_a_threshold_has_a_remainder_of_no_pixels() {
            let covered = select_from(80, 60, vec![columns(0, 80)], 0);
            let remainder = &covered.regions[1];
            assert_eq!((remainder.kind, remainder.weight_px), (RegionKind::Remainder, 0));
            assert_eq!(remainder.mask.area_px(), 0);
            let bbox = remainder.mask.bbox();
            assert_eq!((bbox.x, bbox.y, bbox.width, bbox.height), (0, 0, 80, 60));
        }

        /// A word is level 1, and level 0 counts as 0.
        #[test]
        fn a_word_counts_as_level_1_and_level_0_as_0() {
            let uniform = LevelDistribution::from_logits(&[0.0; 7]).unwrap();
            let answered = |text: &str| {
                uniform.clone().with_answer(crate::method::GeneratedAnswer::new(text.to_owned()))
            };
            let regions = select(vec![columns(0, 40), columns(40, 80)]).regions;
            let objects = regions.into_iter().zip(["The", "0"]);
            let objects =
                objects.map(|(region, text)| ObjectAssessment { region, rating: answered(text) });
            let settings = AggregationSettings {
                local_weight: 1.0,
                mask_bonus: MaskBonus::Each(0.1),
                ..AggregationSettings::default()
            };
            let assessment = assess(answered("4"), objects.collect(), &settings);
            assert!((assessment.score - (0.5 + 0.2 + 2.0)).abs() < 1e-12, "{assessment:?}");
        }
    }
}
