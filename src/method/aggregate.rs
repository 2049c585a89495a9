//! Combines the ratings of the whole image and of its regions to one score.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::method::levels::LevelDistribution;
use crate::method::regions::Region;

/// The weight of each region in the local score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// The region's area, as in the paper's best configuration.
    Area,
    /// The same for all regions.
    Mean,
}

/// The combination of ratings to a score. The defaults are the paper's best configuration; other
/// values are its ablations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AggregationSettings {
    /// Weight of each region in the local score: `area`, or `mean` for equal weights.
    pub weighting: Weighting,
    /// If true, the rating of the whole image and the local score have equal weight. If false, only
    /// the local score counts; an image without regions still uses the rating of the whole image.
    pub global: bool,
    /// If true, the number of masks adds `masks · K / c_max` points to the score, at most K.
    pub segmentation_score: bool,
    /// Number of masks that adds K points to the score. Set it to the largest number of masks of an
    /// image in your collection. The default is the paper's value for the SPAQ data set.
    pub c_max: NonZeroU32,
}

impl Default for AggregationSettings {
    fn default() -> Self {
        Self {
            weighting: Weighting::Area,
            global: true,
            segmentation_score: true,
            c_max: NonZeroU32::new(71).expect("71 is not 0"),
        }
    }
}

/// A region and its rating.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectAssessment {
    /// The rated region.
    pub region: Region,
    /// Rating of the region.
    pub rating: LevelDistribution,
}

/// The result of the method for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// Combined score of the most probable levels, as in the paper; in 1..=2K.
    pub score: f64,
    /// Combined score of the expected levels; in 1..=2K.
    pub score_expected: f64,
    /// Rating of the whole image.
    pub global: LevelDistribution,
    /// Weighted mean level of the regions, in 1..=K. `None` without regions.
    pub local: Option<f64>,
    /// Points for the number of masks: `masks · K / c_max`, at most K. 0 if switched off.
    pub segmentation_score: f64,
    /// Every region with its rating, in the order of the segmentation.
    pub objects: Vec<ObjectAssessment>,
}

/// Combines the ratings: `(global + local) / 2 + seg`, without the terms that are switched off.
///
/// An image without regions has no local score; its score is the rating of the whole image.
pub fn assess(
    global: LevelDistribution,
    objects: Vec<ObjectAssessment>,
    settings: &AggregationSettings,
) -> Assessment {
    let k = f64::from(global.levels());
    let segmentation_score = if settings.segmentation_score {
        (objects.len() as f64 * k / f64::from(settings.c_max.get())).min(k)
    } else {
        0.0
    };
    let combine = |whole: f64, local: Option<f64>| {
        let base = match local {
            Some(local) if settings.global => f64::midpoint(whole, local),
            Some(local) => local,
            None => whole,
        };
        base + segmentation_score
    };
    let level = |rating: &LevelDistribution| f64::from(rating.level());
    let local = local_score(&objects, settings.weighting, level);
    let local_expected = local_score(&objects, settings.weighting, LevelDistribution::expected);
    Assessment {
        score: combine(level(&global), local),
        score_expected: combine(global.expected(), local_expected),
        global,
        local,
        segmentation_score,
        objects,
    }
}

/// Returns the weighted mean of the regions' values. Masks may overlap, so areas are divided by
/// their own sum and not by the image's area.
fn local_score(
    objects: &[ObjectAssessment],
    weighting: Weighting,
    value: impl Fn(&LevelDistribution) -> f64,
) -> Option<f64> {
    let (mut weighted, mut weights) = (0.0, 0.0);
    for object in objects {
        let weight = match weighting {
            Weighting::Area => object.region.mask.area_px() as f64,
            Weighting::Mean => 1.0,
        };
        weighted += weight * value(&object.rating);
        weights += weight;
    }
    (!objects.is_empty()).then(|| weighted / weights)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::method::{Mask, RegionKind, Rle};

    fn rating(level: u8) -> LevelDistribution {
        let certain = (1..=7).map(|candidate| f64::from(u8::from(candidate == level)));
        LevelDistribution::new(certain.collect()).unwrap()
    }

    fn object(area_px: u32, rating: LevelDistribution) -> ObjectAssessment {
        let rle = Rle::from_counts(1, 1000, vec![0, area_px, 1000 - area_px]).unwrap();
        let mask = Mask::new(rle).unwrap();
        let (predicted_iou, stability_score) = (None, None);
        let kind = RegionKind::Object;
        ObjectAssessment { region: Region { kind, mask, predicted_iou, stability_score }, rating }
    }

    fn check(settings: &AggregationSettings, score: f64, local: f64, segmentation_score: f64) {
        let objects = vec![object(300, rating(6)), object(100, rating(2))];
        let assessment = assess(rating(3), objects, settings);
        assert!((assessment.score - score).abs() < 1e-12, "{assessment:?}");
        assert!((assessment.local.unwrap() - local).abs() < 1e-12);
        assert!((assessment.segmentation_score - segmentation_score).abs() < 1e-12);
        assert!((assessment.score_expected - score).abs() < 1e-12, "all ratings are certain");
    }

    #[test]
    fn every_ablation_of_the_paper_follows_its_formula() {
        let paper = AggregationSettings::default();
        let seg = 2.0 * 7.0 / 71.0;
        check(&paper, f64::midpoint(3.0, 5.0) + seg, 5.0, seg);
        let mean = AggregationSettings { weighting: Weighting::Mean, ..paper.clone() };
        check(&mean, 3.5 + seg, 4.0, seg);
        let local = AggregationSettings { global: false, ..paper.clone() };
        check(&local, 5.0 + seg, 5.0, seg);
        let bare = AggregationSettings { segmentation_score: false, ..local };
        check(&bare, 5.0, 5.0, 0.0);
    }

    #[test]
    fn the_segmentation_score_is_at_most_the_number_of_levels() {
        let few = AggregationSettings { c_max: NonZeroU32::MIN, ..AggregationSettings::default() };
        check(&few, 4.0 + 7.0, 5.0, 7.0);
    }

    #[test]
    fn an_image_without_regions_has_its_global_rating_as_score() {
        for global in [true, false] {
            let settings = AggregationSettings { global, ..AggregationSettings::default() };
            let assessment = assess(rating(6), Vec::new(), &settings);
            assert_eq!(assessment.local, None);
            let Assessment { score, score_expected, segmentation_score, .. } = assessment;
            assert_eq!((score, score_expected, segmentation_score), (6.0, 6.0, 0.0));
        }
    }

    #[test]
    fn a_c_max_of_zero_is_refused() {
        let error = serde_json::from_str::<AggregationSettings>(r#"{"c_max": 0}"#).unwrap_err();
        assert!(error.to_string().contains("nonzero"), "{error}");
    }

    fn ratings() -> impl Strategy<Value = LevelDistribution> {
        prop::collection::vec(-5.0..5.0_f64, 7)
            .prop_map(|logits| LevelDistribution::from_logits(&logits).unwrap())
    }

    proptest! {
        #[test]
        fn scores_stay_within_their_range_and_order_does_not_matter(
            global in ratings(),
            regions in prop::collection::vec((1_u32..=1000, ratings()), 0..120),
            by_area: bool, with_global: bool, with_segmentation: bool,
        ) {
            let settings = AggregationSettings {
                weighting: if by_area { Weighting::Area } else { Weighting::Mean },
                global: with_global,
                segmentation_score: with_segmentation,
                ..AggregationSettings::default()
            };
            let mut objects: Vec<_> =
                regions.into_iter().map(|(area, r)| object(area, r)).collect();
            let forward = assess(global.clone(), objects.clone(), &settings);
            objects.reverse();
            let backward = assess(global, objects, &settings);

            let seg = forward.segmentation_score;
            prop_assert!((0.0..=7.0).contains(&seg));
            for score in [forward.score, forward.score_expected] {
                prop_assert!((1.0 - 1e-9..=7.0 + seg + 1e-9).contains(&score), "{}", score);
            }
            // Levels and areas are whole numbers, so their sums are exact in any order.
            prop_assert_eq!((forward.score, forward.local), (backward.score, backward.local));
            prop_assert!((forward.score_expected - backward.score_expected).abs() < 1e-12);
        }
    }
}
