//! Decides whether to segment an image. Segmentation and the rating of regions dominate the cost.

use serde::{Deserialize, Serialize};

use crate::method::levels::LevelDistribution;

/// The images whose objects are segmented and rated, in addition to the whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectsWhen {
    /// Every image, as in the paper.
    #[default]
    Always,
    /// Images whose quality is uncertain after the rating of the whole image.
    Cascade,
    /// No image: the paper's ablation with one rating of the whole image.
    Never,
}

/// The condition on which an image is segmented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsSettings {
    /// `always`: segment every image, as in the paper. `cascade`: rate the whole image first, and
    /// segment it only if its quality is uncertain. `never`: rate the whole image alone.
    pub when: ObjectsWhen,
    /// With `cascade`: lower end of the uncertain range. An image is segmented if the expected
    /// level of the whole image is from `expected_from` to `expected_to`. The default is for 7
    /// levels.
    pub expected_from: f64,
    /// With `cascade`: upper end of the uncertain range. An image is segmented if the expected
    /// level of the whole image is from `expected_from` to `expected_to`. The default is for 7
    /// levels.
    pub expected_to: f64,
    /// With `cascade`: an image is also segmented if the most probable level of the whole image has
    /// a probability below this value, from 0 to 1.
    pub confidence_below: f64,
}

impl Default for ObjectsSettings {
    fn default() -> Self {
        Self {
            when: ObjectsWhen::Always,
            expected_from: 2.5,
            expected_to: 5.5,
            confidence_below: 0.5,
        }
    }
}

/// Contradictory settings of a cascade.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "a cascade from {from} to {to} or below a confidence of {confidence}: the first must not be \
     above the second, their range must overlap the levels 1 to {k}, and the confidence must be in \
     0..=1"
)]
pub struct ObjectsError {
    /// Lower end of the range.
    pub from: f64,
    /// Upper end of the range.
    pub to: f64,
    /// Limit on the confidence.
    pub confidence: f64,
    /// Number of levels.
    pub k: u8,
}

impl ObjectsSettings {
    /// Returns true if the whole image is rated before segmentation.
    pub fn rates_whole_first(&self) -> bool {
        self.when != ObjectsWhen::Always
    }

    /// Returns true if an image is segmented after this rating of the whole image.
    pub fn needs_objects(&self, whole: &LevelDistribution) -> bool {
        match self.when {
            ObjectsWhen::Always => true,
            ObjectsWhen::Never => false,
            ObjectsWhen::Cascade => {
                (self.expected_from..=self.expected_to).contains(&whole.expected())
                    || whole.confidence() < self.confidence_below
            }
        }
    }

    /// Returns the name that events carry, or `None` for `always`.
    pub fn name(&self) -> Option<String> {
        match self.when {
            ObjectsWhen::Always => None,
            ObjectsWhen::Never => Some("never".to_owned()),
            ObjectsWhen::Cascade => {
                let Self { expected_from, expected_to, confidence_below, .. } = self;
                Some(format!("cascade-{expected_from}-{expected_to}-{confidence_below}"))
            }
        }
    }

    /// Checks the range and the confidence of a cascade for `k` levels.
    ///
    /// # Errors
    /// Fails if the range is empty or outside the levels, or if the confidence is not in 0..=1.
    pub fn check(&self, k: u8) -> Result<(), ObjectsError> {
        let Self { expected_from: from, expected_to: to, confidence_below: confidence, .. } = *self;
        let meets_levels = from <= f64::from(k) && to >= 1.0;
        let holds = from <= to && meets_levels && (0.0..=1.0).contains(&confidence);
        if holds || self.when != ObjectsWhen::Cascade {
            return Ok(());
        }
        Err(ObjectsError { from, to, confidence, k })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rating(probabilities: [f64; 7]) -> LevelDistribution {
        LevelDistribution::new(probabilities.to_vec()).unwrap()
    }

    #[test]
    fn a_cascade_needs_objects_if_the_whole_image_is_uncertain() {
        let settings = ObjectsSettings { when: ObjectsWhen::Cascade, ..ObjectsSettings::default() };
        for (probabilities, expected) in [
            ([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], true),
            ([0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.9], false),
            ([0.9, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], false),
            // The expected level is above the range, but the confidence is low.
            ([0.0, 0.0, 0.0, 0.0, 0.1, 0.45, 0.45], true),
            // The expected level is above the range, and the confidence is exactly the limit.
            ([0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5], false),
        ] {
            assert_eq!(
                settings.needs_objects(&rating(probabilities)),
                expected,
                "{probabilities:?}"
            );
        }
        let certain = rating([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let never = ObjectsSettings { when: ObjectsWhen::Never, ..ObjectsSettings::default() };
        assert!(
            !never.needs_objects(&certain) && ObjectsSettings::default().needs_objects(&certain)
        );
        assert!(settings.rates_whole_first() && never.rates_whole_first());
        assert!(!ObjectsSettings::default().rates_whole_first());
        assert_eq!(settings.name().as_deref(), Some("cascade-2.5-5.5-0.5"));
        assert_eq!(
            (never.name().as_deref(), ObjectsSettings::default().name()),
            (Some("never"), None)
        );
    }

    #[test]
    fn a_cascade_with_an_empty_range_is_refused() {
        let base = || ObjectsSettings { when: ObjectsWhen::Cascade, ..ObjectsSettings::default() };
        for settings in [
            ObjectsSettings { expected_from: 8.0, expected_to: 9.0, ..base() },
            ObjectsSettings { expected_from: 6.0, ..base() },
            ObjectsSettings { expected_to: f64::NAN, ..base() },
            ObjectsSettings { confidence_below: 1.5, ..base() },
        ] {
            assert!(settings.check(7).is_err());
        }
        base().check(7).unwrap();
        let unused = ObjectsSettings { when: ObjectsWhen::Never, expected_from: 9.0, ..base() };
        unused.check(3).unwrap();
    }
}
