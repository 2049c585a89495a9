//! Scores by other formulas, computed from the ratings in the events.

use std::num::NonZeroU32;

use crate::event::{QualityEvent, Rating};
use crate::method::{self, AggregationSettings, ObjectsWhen, Preset, RegionValue, combine};

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

/// The presets whose scores need no other ratings: rows 3 and 5 to 8 of Table 4, and the authors'
/// two.
const PRESETS: [Preset; 7] = [
    Preset::PaperMean,
    Preset::PaperWhole,
    Preset::PaperNoSeg,
    Preset::PaperBoxes,
    Preset::Paper,
    Preset::Release,
    Preset::ReleaseTables,
];

/// Returns all formulas that need no other ratings, each with levels and with expected levels.
/// `settings_of` returns the method of a preset; `c_max` takes the place of its own.
pub fn ablations(
    c_max: NonZeroU32,
    settings_of: impl Fn(Preset) -> method::Settings,
) -> Vec<Ablation> {
    let formula = |preset| {
        let method::Settings { aggregation, objects, .. } = settings_of(preset);
        [false, true].map(|expected| Ablation {
            preset,
            expected,
            aggregation: AggregationSettings { c_max, ..aggregation.clone() },
            whole_only: objects.when == ObjectsWhen::Never,
        })
    };
    PRESETS.into_iter().flat_map(formula).collect()
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
