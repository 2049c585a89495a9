//! Combines the ratings of the whole image and of its regions to one score.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::method::bounds::not_negative;
use crate::method::formula::Formula;
use crate::method::levels::LevelDistribution;
use crate::method::mask_bonus::MaskBonus;
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
/// values are its ablations and the authors' program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AggregationSettings {
    /// Weight of each region in the local score: `area`, or `mean` for equal weights.
    pub weighting: Weighting,
    /// Weight of the local score, at least 0. With `global_weight` it sets the range of the score:
    /// for weights that sum to 1, the levels of the standard plus the bonus for masks.
    #[serde(deserialize_with = "not_negative")]
    pub local_weight: f64,
    /// Weight of the rating of the whole image, at least 0; 0 leaves it out. In an image without
    /// regions, the rating of the whole image takes the place of the local score.
    #[serde(deserialize_with = "not_negative")]
    pub global_weight: f64,
    /// Points that the number of regions adds to the score: `auto` adds `regions · K / c_max`, at
    /// most K, as in the paper. A number is added for each region, without limit; 0 adds none.
    pub mask_bonus: MaskBonus,
    /// Number of regions that adds K points to the score if `mask_bonus` is `auto`. Set it to the
    /// largest number of regions of an image in your collection. The default is the paper's value
    /// for the SPAQ data set.
    pub c_max: NonZeroU32,
}

impl Default for AggregationSettings {
    fn default() -> Self {
        Self {
            weighting: Weighting::Area,
            local_weight: 0.5,
            global_weight: 0.5,
            mask_bonus: MaskBonus::Auto,
            c_max: NonZeroU32::new(71).expect("71 is not 0"),
        }
    }
}

/// Weights that give every image the same score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("local_weight and global_weight are both 0; at least one rating must count")]
pub struct AggregationError;

impl AggregationSettings {
    /// Returns the formula that the weights form.
    pub fn formula(&self) -> Formula {
        let is_by_area = self.weighting == Weighting::Area;
        match (self.local_weight, self.global_weight, self.mask_bonus) {
            (1.0, 0.5, MaskBonus::Each(0.1)) if is_by_area => Formula::Release,
            (1.0, 1.0, MaskBonus::Each(0.1)) if is_by_area => Formula::Tables,
            (local, global, MaskBonus::Auto | MaskBonus::Each(0.0))
                if (local + global - 1.0).abs() < 1e-12 =>
            {
                Formula::Paper
            }
            _ => Formula::Custom,
        }
    }

    /// Checks that a rating counts.
    ///
    /// # Errors
    /// Fails if both weights are 0.
    pub fn check(&self) -> Result<(), AggregationError> {
        if self.local_weight + self.global_weight > 0.0 { Ok(()) } else { Err(AggregationError) }
    }

    /// Returns the points of `count` regions on a scale of `k` levels.
    fn points_of_regions(&self, count: usize, k: f64) -> f64 {
        match self.mask_bonus {
            MaskBonus::Each(points) => points * count as f64,
            MaskBonus::Auto => (count as f64 * k / f64::from(self.c_max.get())).min(k),
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
    /// Combined score of the levels; in 1..=2K by the paper's formula.
    pub score: f64,
    /// Combined score of the expected levels; in 1..=2K by the paper's formula.
    pub score_expected: f64,
    /// Rating of the whole image.
    pub global: LevelDistribution,
    /// Weighted mean level of the regions. `None` without regions.
    pub local: Option<f64>,
    /// Points for the number of regions: `regions · K / c_max`, at most K, or those of
    /// `mask_bonus`.
    pub segmentation_score: f64,
    /// Every region with its rating, in the order of the segmentation.
    pub objects: Vec<ObjectAssessment>,
}

/// A rated region, reduced to the numbers that the score depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionValue {
    /// Area that weights the region, in pixels.
    pub weight_px: u64,
    /// The region's level, or its expected level.
    pub value: f64,
}

/// A score and its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CombinedScore {
    /// `local_weight · local + global_weight · global + points of the regions`.
    pub score: f64,
    /// Weighted mean of the regions' values. `None` without regions.
    pub local: Option<f64>,
    /// Points for the number of regions.
    pub segmentation_score: f64,
}

/// Combines the ratings: `local_weight · local + global_weight · global + points of the regions`;
/// with the default weights `(global + local) / 2 + seg`.
///
/// An image without regions has no local score. The rating of the whole image takes its place, so
/// that the score stays within the range of its formula.
pub fn assess(
    global: LevelDistribution,
    objects: Vec<ObjectAssessment>,
    settings: &AggregationSettings,
) -> Assessment {
    let combined = |value: fn(&LevelDistribution) -> f64| {
        let region = |object: &ObjectAssessment| RegionValue {
            weight_px: object.region.weight_px,
            value: value(&object.rating),
        };
        let regions: Vec<RegionValue> = objects.iter().map(region).collect();
        combine(value(&global), &regions, global.levels(), settings)
    };
    let by_level = combined(|rating| f64::from(rating.level()));
    let by_expectation = combined(LevelDistribution::expected);
    Assessment {
        score: by_level.score,
        score_expected: by_expectation.score,
        global,
        local: by_level.local,
        segmentation_score: by_level.segmentation_score,
        objects,
    }
}

/// Combines the value of the whole image and those of its regions on a scale of `k` levels.
pub fn combine(
    global: f64,
    regions: &[RegionValue],
    k: u8,
    settings: &AggregationSettings,
) -> CombinedScore {
    let segmentation_score = settings.points_of_regions(regions.len(), f64::from(k));
    let local = local_score(regions, settings.weighting);
    let score = settings.local_weight * local.unwrap_or(global)
        + settings.global_weight * global
        + segmentation_score;
    CombinedScore { score, local, segmentation_score }
}

/// Returns the weighted mean of the regions' values. Masks may overlap, so weights are divided by
/// their own sum and not by the image's area.
fn local_score(regions: &[RegionValue], weighting: Weighting) -> Option<f64> {
    let (mut weighted, mut weights) = (0.0, 0.0);
    for region in regions {
        let weight = match weighting {
            Weighting::Area => region.weight_px as f64,
            Weighting::Mean => 1.0,
        };
        weighted += weight * region.value;
        weights += weight;
    }
    (!regions.is_empty()).then(|| weighted / weights)
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
        let region = Region::new(RegionKind::Object, Mask::new(rle).unwrap());
        ObjectAssessment { region, rating }
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
        let local = AggregationSettings { local_weight: 1.0, global_weight: 0.0, ..paper.clone() };
        check(&local, 5.0 + seg, 5.0, seg);
        let bare = AggregationSettings { mask_bonus: MaskBonus::Each(0.0), ..local };
        check(&bare, 5.0, 5.0, 0.0);
        for settings in [paper, mean, bare] {
            assert_eq!(settings.formula(), Formula::Paper, "{settings:?}");
        }
    }

    /// The example of the authors' two programs: g = l = 4 and 8 regions.
    #[test]
    fn the_three_formulas_of_the_authors_differ_in_their_range() {
        let objects = vec![object(100, rating(4)); 8];
        let of = |local_weight, global_weight, mask_bonus| AggregationSettings {
            local_weight,
            global_weight,
            mask_bonus,
            ..AggregationSettings::default()
        };
        for (settings, formula, score) in [
            (of(0.5, 0.5, MaskBonus::Auto), Formula::Paper, 4.0 + 56.0 / 71.0),
            (of(1.0, 0.5, MaskBonus::Each(0.1)), Formula::Release, 6.8),
            (of(1.0, 1.0, MaskBonus::Each(0.1)), Formula::Tables, 8.8),
            (of(1.0, 1.0, MaskBonus::Auto), Formula::Custom, 8.0 + 56.0 / 71.0),
        ] {
            assert_eq!(settings.formula(), formula);
            let mean = AggregationSettings { weighting: Weighting::Mean, ..settings.clone() };
            let expected = if formula == Formula::Paper { formula } else { Formula::Custom };
            assert_eq!(mean.formula(), expected);
            let assessment = assess(rating(4), objects.clone(), &settings);
            assert!((assessment.score - score).abs() < 1e-12, "{formula:?}: {assessment:?}");
        }
    }

    #[test]
    fn a_bonus_for_each_region_has_no_limit() {
        let objects = vec![object(1, rating(1)); 100];
        let settings = AggregationSettings {
            mask_bonus: MaskBonus::Each(0.1),
            ..AggregationSettings::default()
        };
        let assessment = assess(rating(1), objects, &settings);
        assert!((assessment.segmentation_score - 10.0).abs() < 1e-12);
    }

    #[test]
    fn weights_without_any_rating_are_refused() {
        let none =
            AggregationSettings { local_weight: 0.0, global_weight: 0.0, ..Default::default() };
        none.check().unwrap_err();
        AggregationSettings { global_weight: 0.0, ..AggregationSettings::default() }
            .check()
            .unwrap();
        for bad in [r#"{"local_weight": -1}"#, r#"{"mask_bonus": -0.1}"#] {
            let error = serde_json::from_str::<AggregationSettings>(bad).unwrap_err();
            assert!(error.to_string().contains("at least 0"), "{error}");
        }
    }

    #[test]
    fn the_segmentation_score_is_at_most_the_number_of_levels() {
        let few = AggregationSettings { c_max: NonZeroU32::MIN, ..AggregationSettings::default() };
        check(&few, 4.0 + 7.0, 5.0, 7.0);
    }

    #[test]
    fn without_regions_the_whole_image_takes_the_place_of_the_local_score() {
        for (local_weight, global_weight, score) in
            [(0.5, 0.5, 6.0), (1.0, 0.0, 6.0), (1.0, 0.5, 9.0)]
        {
            let settings =
                AggregationSettings { local_weight, global_weight, ..Default::default() };
            let assessment = assess(rating(6), Vec::new(), &settings);
            assert_eq!(assessment.local, None);
            let Assessment { score: of_levels, score_expected, segmentation_score, .. } =
                assessment;
            assert_eq!((of_levels, score_expected, segmentation_score), (score, score, 0.0));
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
                local_weight: if with_global { 0.5 } else { 1.0 },
                global_weight: if with_global { 0.5 } else { 0.0 },
                mask_bonus: if with_segmentation {
                    MaskBonus::Auto
                } else {
                    MaskBonus::Each(0.0)
                },
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
