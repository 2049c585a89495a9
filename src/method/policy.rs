//! Advice: what a set of thresholds says of an assessment.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::aggregate::Assessment;
use super::bounds::{fraction, not_negative, optional_finite};
use super::levels::LevelDistribution;
use super::regions::RegionKind;

/// What to do with the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every threshold is met.
    Pass,
    /// Near enough to a threshold that a person should look.
    Review,
    /// A threshold is missed.
    Reject,
}

impl Outcome {
    /// The stable name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Review => "review",
            Self::Reject => "reject",
        }
    }
}

/// The outcome and the numbers it rests on, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the policy that was applied.
    pub policy: String,
    /// What it advises.
    pub outcome: Outcome,
    /// Why, one sentence for each threshold that spoke; empty when the image passes.
    pub reasons: Vec<String>,
}

/// Which of the two scores the thresholds are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// `score` and the regions' levels, as in the paper.
    Level,
    /// `score_expected` and the regions' expectations, which move in finer steps.
    Expected,
}

/// One policy: thresholds for one use of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// The score that an image needs; without it the score decides nothing.
    #[serde(deserialize_with = "optional_finite")]
    pub score_min: Option<f64>,
    /// The rating that every object needs that is large enough to count; without it objects decide
    /// nothing. The remainder is no object.
    #[serde(deserialize_with = "optional_finite")]
    pub object_score_min: Option<f64>,
    /// Smallest share of the image, 0 to 1, that an object must cover to count.
    #[serde(deserialize_with = "fraction")]
    pub object_area_fraction_min: f64,
    /// Scores nearer than this to a threshold, on either side, ask for a review instead of passing
    /// or being rejected.
    #[serde(deserialize_with = "not_negative")]
    pub review_band: f64,
    /// Which numbers are compared: `level` or `expected`.
    pub basis: Basis,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            score_min: None,
            object_score_min: None,
            object_area_fraction_min: 0.05,
            review_band: 0.25,
            basis: Basis::Level,
        }
    }
}

/// All policies by name, and the one for references that name none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Policy for references that name none; without it their events carry no verdict.
    pub default: Option<String>,
    /// The policies; a reference may name one of them.
    pub named: BTreeMap<String, PolicySettings>,
}

/// A policy that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Nobody configured a policy of this name.
    #[error("policy {name:?} is not configured; known are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The configured names, for the message.
        known: String,
    },
}

impl PolicyError {
    /// Stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "policy.unknown",
        }
    }
}

/// A policy with its name, ready to judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    name: String,
    settings: PolicySettings,
}

impl Policies {
    /// The policy of this name, or the default one for no name; none where no default is set.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`] for a name, given or default, that is not configured.
    pub fn find(&self, name: Option<&str>) -> Result<Option<Policy>, PolicyError> {
        let Some(name) = name.or(self.default.as_deref()) else {
            return Ok(None);
        };
        let Some(settings) = self.named.get(name) else {
            let names: Vec<&str> = self.named.keys().map(String::as_str).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(PolicyError::Unknown { name: name.to_owned(), known });
        };
        Ok(Some(Policy::new(name.to_owned(), settings.clone())))
    }

    /// Checks that the default policy exists.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`] when it does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.find(None).map(|_| ())
    }
}

impl Policy {
    /// A policy of this name.
    pub fn new(name: String, settings: PolicySettings) -> Self {
        Self { name, settings }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Holds an assessment against the thresholds; the worst of them decides.
    pub fn judge(&self, assessment: &Assessment) -> Verdict {
        let settings = &self.settings;
        let mut verdict =
            Verdict { policy: self.name.clone(), outcome: Outcome::Pass, reasons: Vec::new() };
        if let Some(minimum) = settings.score_min {
            let score = match settings.basis {
                Basis::Level => assessment.score,
                Basis::Expected => assessment.score_expected,
            };
            verdict.hear(self.compare(score, minimum), || format!("the score of {score:.2}"));
        }
        let Some(minimum) = settings.object_score_min else {
            return verdict;
        };
        for (index, object) in assessment.objects.iter().enumerate() {
            let share = object.region.mask.area_fraction();
            let counts = object.region.kind == RegionKind::Object
                && share >= settings.object_area_fraction_min;
            if counts {
                let rating = self.value(&object.rating);
                verdict.hear(self.compare(rating, minimum), || {
                    let percent = 100.0 * share;
                    format!("object {index} ({percent:.1} % of the image) rated {rating:.2}")
                });
            }
        }
        verdict
    }

    /// What a verdict is worth if objects were not looked for: a policy that counts them cannot pass the
    /// image on its whole alone.
    pub fn without_objects(&self, mut verdict: Verdict) -> Verdict {
        if self.settings.object_score_min.is_some() {
            let why = (Outcome::Review, "were not looked for".to_owned());
            verdict.hear(why, || "objects".to_owned());
        }
        verdict
    }

    fn value(&self, rating: &LevelDistribution) -> f64 {
        match self.settings.basis {
            Basis::Level => f64::from(rating.level()),
            Basis::Expected => rating.expected(),
        }
    }

    fn compare(&self, value: f64, minimum: f64) -> (Outcome, String) {
        let band = self.settings.review_band;
        if value < minimum - band {
            return (Outcome::Reject, format!("is below the minimum of {minimum:.2}"));
        }
        if value < minimum + band {
            return (
                Outcome::Review,
                format!("is within {band:.2} of the minimum of {minimum:.2}"),
            );
        }
        (Outcome::Pass, String::new())
    }
}

impl Verdict {
    /// Takes in what one threshold says.
    fn hear(&mut self, (outcome, relation): (Outcome, String), subject: impl Fn() -> String) {
        match (self.outcome, outcome) {
            (_, Outcome::Pass) => return,
            (Outcome::Reject, _) => {}
            _ => self.outcome = outcome,
        }
        self.reasons.push(format!("{} {relation}", subject()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{Mask, ObjectAssessment, Region, Rle};

    fn rating(level: u8) -> LevelDistribution {
        let certain = (1..=7).map(|candidate| f64::from(u8::from(candidate == level)));
        LevelDistribution::new(certain.collect()).unwrap()
    }

    /// An assessment of a picture of 100 pixels with objects of these areas and levels.
    fn assessment(score: f64, objects: &[(RegionKind, u32, u8)]) -> Assessment {
        let object = |&(kind, area_px, level): &(RegionKind, u32, u8)| {
            let rle = Rle::from_counts(10, 10, vec![0, area_px, 100 - area_px]).unwrap();
            let mask = Mask::new(rle).unwrap();
            let region = Region { kind, mask, predicted_iou: None, stability_score: None };
            ObjectAssessment { region, rating: rating(level) }
        };
        Assessment {
            score,
            score_expected: score - 1.0,
            global: rating(4),
            local: None,
            segmentation_score: 0.0,
            objects: objects.iter().map(object).collect(),
        }
    }

    fn judge(settings: PolicySettings, assessment: &Assessment) -> Verdict {
        Policy::new("web".to_owned(), settings).judge(assessment)
    }

    #[test]
    fn objects_that_were_not_looked_for_pass_no_policy_that_counts_them() {
        let counting = PolicySettings { object_score_min: Some(3.0), ..PolicySettings::default() };
        for (settings, outcome) in
            [(counting, Outcome::Review), (PolicySettings::default(), Outcome::Pass)]
        {
            let policy = Policy::new("web".to_owned(), settings);
            let verdict = policy.without_objects(policy.judge(&assessment(6.0, &[])));
            assert_eq!(verdict.outcome, outcome, "{:?}", verdict.reasons);
        }
    }

    #[test]
    fn the_score_passes_is_reviewed_or_rejected_around_its_minimum() {
        let settings =
            PolicySettings { score_min: Some(4.0), review_band: 0.5, ..PolicySettings::default() };
        let check = |score, outcome, reasons: &[&str]| {
            let verdict = judge(settings.clone(), &assessment(score, &[]));
            assert_eq!((verdict.outcome, verdict.reasons.len()), (outcome, reasons.len()));
            assert_eq!(verdict.reasons, reasons);
        };
        check(4.5, Outcome::Pass, &[]);
        let near = "is within 0.50 of the minimum of 4.00";
        check(4.49, Outcome::Review, &[&format!("the score of 4.49 {near}")]);
        check(3.5, Outcome::Review, &[&format!("the score of 3.50 {near}")]);
        check(3.4, Outcome::Reject, &["the score of 3.40 is below the minimum of 4.00"]);
    }

    #[test]
    fn without_a_band_the_minimum_itself_passes() {
        let settings =
            PolicySettings { score_min: Some(4.0), review_band: 0.0, ..PolicySettings::default() };
        assert_eq!(judge(settings.clone(), &assessment(4.0, &[])).outcome, Outcome::Pass);
        assert_eq!(judge(settings, &assessment(3.999, &[])).outcome, Outcome::Reject);
    }

    #[test]
    fn only_objects_that_are_large_enough_count() {
        let settings = PolicySettings {
            object_score_min: Some(4.0),
            object_area_fraction_min: 0.1,
            ..PolicySettings::default()
        };
        let small = (RegionKind::Object, 9, 1);
        let rest = (RegionKind::Remainder, 50, 1);
        let verdict = judge(settings.clone(), &assessment(1.0, &[small, rest]));
        assert_eq!((verdict.outcome, verdict.reasons.len()), (Outcome::Pass, 0));
        let large = (RegionKind::Object, 10, 3);
        let verdict = judge(settings, &assessment(1.0, &[small, large]));
        assert_eq!(verdict.outcome, Outcome::Reject);
        let reason = "object 1 (10.0 % of the image) rated 3.00 is below the minimum of 4.00";
        assert_eq!(verdict.reasons, [reason]);
    }

    #[test]
    fn the_worst_threshold_decides_and_all_of_them_speak() {
        let settings = PolicySettings {
            score_min: Some(4.0),
            object_score_min: Some(4.0),
            ..PolicySettings::default()
        };
        let objects = [(RegionKind::Object, 30, 2), (RegionKind::Object, 30, 4)];
        let verdict = judge(settings, &assessment(4.1, &objects));
        assert_eq!((verdict.outcome, verdict.reasons.len()), (Outcome::Reject, 3));
    }

    #[test]
    fn the_basis_chooses_which_numbers_are_compared() {
        let settings =
            PolicySettings { score_min: Some(4.0), review_band: 0.0, ..PolicySettings::default() };
        let expected = PolicySettings { basis: Basis::Expected, ..settings.clone() };
        assert_eq!(judge(settings, &assessment(4.5, &[])).outcome, Outcome::Pass);
        assert_eq!(judge(expected, &assessment(4.5, &[])).outcome, Outcome::Reject);
    }

    #[test]
    fn a_policy_is_found_by_name_or_by_default() {
        let named = [("web".to_owned(), PolicySettings::default())];
        let mut policies = Policies { default: None, named: named.into() };
        assert_eq!(policies.find(None).unwrap(), None);
        assert_eq!(policies.find(Some("web")).unwrap().unwrap().name(), "web");
        let error = policies.find(Some("print")).unwrap_err();
        assert_eq!(error.to_string(), "policy \"print\" is not configured; known are: web");
        policies.default = Some("web".to_owned());
        assert_eq!(policies.find(None).unwrap().unwrap().name(), "web");
        policies.default = Some("gone".to_owned());
        assert!(policies.check().is_err());
    }

    #[test]
    fn thresholds_that_are_no_numbers_are_refused() {
        for bad in ["{\"review_band\": -1}", "{\"object_area_fraction_min\": 2}", "{\"min\": 1}"] {
            assert!(serde_json::from_str::<PolicySettings>(bad).is_err(), "{bad}");
        }
    }
}
