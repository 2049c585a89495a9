//! Scores by other formulas, computed from the ratings in the events.

use std::num::NonZeroU32;

use crate::event::{QualityEvent, Rating};
use crate::method::{AggregationSettings, MaskBonus, Preset, RegionValue, Weighting, combine};

/// A formula of the score and the value of a rating that it combines.
#[derive(Debug, Clone, PartialEq)]
pub struct Ablation {
    /// Preset whose formula it is: a row of the paper's Table 4, or the authors' program.
    pub preset: Preset,
    /// True if expected levels are combined instead of the most probable ones.
    pub expected: bool,
    aggregation: AggregationSettings,
    /// True if the regions are left out altogether.
    whole_only: bool,
}

/// Returns all formulas that need no other ratings: rows 3 and 5 to 8 of Table 4 and the authors'
/// two, each with levels and with expected levels.
pub fn ablations(c_max: NonZeroU32) -> Vec<Ablation> {
    let formula = |preset| {
        let paper = AggregationSettings { c_max, ..AggregationSettings::default() };
        let boxes = AggregationSettings { local_weight: 1.0, global_weight: 0.0, ..paper.clone() };
        let authors = |global_weight| AggregationSettings {
            global_weight,
            mask_bonus: MaskBonus::Each(0.1),
            ..boxes.clone()
        };
        let aggregation = match preset {
            Preset::PaperMean => AggregationSettings { weighting: Weighting::Mean, ..boxes },
            Preset::PaperNoSeg => AggregationSettings { mask_bonus: MaskBonus::Each(0.0), ..boxes },
            Preset::PaperBoxes => boxes,
            Preset::Release => authors(0.5),
            Preset::ReleaseTables => authors(1.0),
            _ => paper,
        };
        let ablation = |expected| Ablation {
            preset,
            expected,
            aggregation: aggregation.clone(),
            whole_only: preset == Preset::PaperWhole,
        };
        [ablation(false), ablation(true)]
    };
    let presets = [
        Preset::PaperMean,
        Preset::PaperWhole,
        Preset::PaperNoSeg,
        Preset::PaperBoxes,
        Preset::Paper,
        Preset::Release,
        Preset::ReleaseTables,
    ];
    presets.into_iter().flat_map(formula).collect()
}

impl Ablation {
    /// Returns the name of the row.
    pub fn name(&self) -> String {
        let value = if self.expected { "expected" } else { "level" };
        format!("{}, {value}", self.preset.name())
    }

    /// Returns the score of an event by this formula. Returns `None` if the formula needs regions
    /// and the event has none because objects were not segmented.
    pub fn score(&self, event: &QualityEvent) -> Option<f64> {
        if event.segmentation.skipped && !self.whole_only {
            return None;
        }
        let value = |rating: &Rating| {
            if self.expected { rating.expected } else { f64::from(rating.level) }
        };
        let region = |object: &crate::event::ObjectQuality| RegionValue {
            weight_px: object.weight_px.unwrap_or(object.area),
            value: value(&object.rating),
        };
        let regions: Vec<RegionValue> =
            if self.whole_only { Vec::new() } else { event.objects.iter().map(region).collect() };
        // The standard has at most 9 levels.
        let k = u8::try_from(event.global.probabilities.len()).unwrap_or(u8::MAX);
        Some(combine(value(&event.global), &regions, k, &self.aggregation).score)
    }
}
