//! Whether an image's objects are looked for at all: the dearest part of the method, and not always needed.

use serde::{Deserialize, Serialize};

use super::levels::LevelDistribution;

/// When objects are looked for and rated, beside the whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectsWhen {
    /// For every image, as the paper does.
    #[default]
    Always,
    /// Where the rating of the whole leaves the image's quality open.
    Cascade,
    /// For no image: one rating of the whole (the paper's ablation without objects).
    Never,
}

/// When objects are looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsSettings {
    /// `always` (the paper), `cascade` or `never`.
    pub when: ObjectsWhen,
    /// In a cascade: they are, where the expected level of the whole image is at least this … (the
    /// defaults are for seven levels)
    pub expected_from: f64,
    /// … and at most this, …
    pub expected_to: f64,
    /// … or where the most probable level is less probable than this.
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

/// Settings of a cascade that contradict themselves.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "a cascade from {from} to {to} or below a confidence of {confidence}: the first must not be above the \
     second, both meet the levels 1 to {k}, and the last lies in 0..=1"
)]
pub struct ObjectsError {
    /// Lower end.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// Confidence.
    pub confidence: f64,
    /// Number of levels.
    pub k: u8,
}

impl ObjectsSettings {
    /// Whether the whole image is rated before its objects are looked for.
    pub fn wants_the_whole_first(&self) -> bool {
        self.when != ObjectsWhen::Always
    }

    /// Whether objects are looked for in an image whose whole got this rating.
    pub fn asks_for(&self, whole: &LevelDistribution) -> bool {
        match self.when {
            ObjectsWhen::Always => true,
            ObjectsWhen::Never => false,
            ObjectsWhen::Cascade => {
                (self.expected_from..=self.expected_to).contains(&whole.expected())
                    || whole.confidence() < self.confidence_below
            }
        }
    }

    /// What events call it; nothing where it is as in the paper.
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

    /// Refuses a cascade that nothing could fall into, or that is no number.
    ///
    /// # Errors
    /// Its three numbers.
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
    fn a_cascade_asks_where_the_whole_leaves_it_open() {
        let settings = ObjectsSettings { when: ObjectsWhen::Cascade, ..ObjectsSettings::default() };
        for (probabilities, asks) in [
            ([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], true),
            ([0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.9], false),
            ([0.9, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], false),
            // Far up, but not sure of the level.
            ([0.0, 0.0, 0.0, 0.0, 0.1, 0.45, 0.45], true),
        ] {
            assert_eq!(settings.asks_for(&rating(probabilities)), asks, "{probabilities:?}");
        }
        let certain = rating([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let never = ObjectsSettings { when: ObjectsWhen::Never, ..ObjectsSettings::default() };
        assert!(!never.asks_for(&certain) && ObjectsSettings::default().asks_for(&certain));
        assert_eq!(settings.name().as_deref(), Some("cascade-2.5-5.5-0.5"));
        assert_eq!(
            (never.name().as_deref(), ObjectsSettings::default().name()),
            (Some("never"), None)
        );
    }

    #[test]
    fn a_cascade_without_a_band_is_refused() {
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
