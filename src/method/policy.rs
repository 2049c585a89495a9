//! Verdicts: compares an assessment with a set of thresholds.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::method::aggregate::{Assessment, ObjectAssessment};
use crate::method::bounds::{fraction, not_negative, optional_finite};
use crate::method::formula::Formula;
use crate::method::levels::LevelDistribution;
use crate::method::reason::{Reason, Scope};
use crate::method::reason_condition::ReasonCondition;
use crate::method::regions::RegionKind;

/// The recommended treatment of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Outcome")]
pub enum PolicyOutcome {
    /// Every threshold is met.
    Pass,
    /// A value is so close to a threshold that a person should review the image.
    Review,
    /// A threshold is missed.
    Reject,
}

impl PolicyOutcome {
    /// Returns the name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Review => "review",
            Self::Reject => "reject",
        }
    }
}

/// The outcome of a policy, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// Name of the policy.
    pub policy: String,
    /// Recommendation of the policy.
    pub outcome: PolicyOutcome,
    /// One sentence for each threshold that is missed or close. Empty if the image passes.
    pub reasons: Vec<String>,
}

/// The scores that are compared with the thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// `score` and the most probable levels of the regions, as in the paper.
    Level,
    /// `score_expected` and the expected levels of the regions, which are finer.
    Expected,
}

/// Thresholds for one use of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// Formula of the score that `score_min` is meant for: `paper` (weights that sum to 1, such as
    /// the defaults), `release`, `tables`, or `custom` for any other weights, which are not
    /// compared with each other. The worker does not start with another formula, because the ranges
    /// differ.
    pub formula: Formula,
    /// Minimum score of an image. Without it, the score is not checked.
    #[serde(deserialize_with = "optional_finite")]
    pub score_min: Option<f64>,
    /// Minimum rating of every object that covers at least `object_area_fraction_min` of the image.
    /// The remainder is not an object. Without it, objects are not checked.
    #[serde(deserialize_with = "optional_finite")]
    pub object_score_min: Option<f64>,
    /// Minimum area of an object to be checked against `object_score_min`, `reject_reasons` and
    /// `review_reasons`, as a share of the image from 0 to 1.
    #[serde(deserialize_with = "fraction")]
    pub object_area_fraction_min: f64,
    /// Margin around each threshold within which the outcome is `review` instead of `pass` or
    /// `reject`.
    #[serde(deserialize_with = "not_negative")]
    pub review_band: f64,
    /// Values to compare: `level` (the most probable levels, as in the paper) or `expected` (the
    /// expected levels).
    pub basis: Basis,
    /// Rejects an image with one of these reasons, as a whole or in an object that is checked:
    /// `["blurred", "too_dark:0.6"]` names codes, and after a colon the strength (0 to 1) from
    /// which a reason counts. Needs `pipeline.reasons`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reject_reasons: Vec<ReasonCondition>,
    /// Reasons for a review, in the same form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub review_reasons: Vec<ReasonCondition>,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            formula: Formula::Paper,
            score_min: None,
            object_score_min: None,
            object_area_fraction_min: 0.05,
            review_band: 0.25,
            basis: Basis::Level,
            reject_reasons: Vec::new(),
            review_reasons: Vec::new(),
        }
    }
}

impl PolicySettings {
    fn names_reasons(&self) -> bool {
        !self.reject_reasons.is_empty() || !self.review_reasons.is_empty()
    }
}

/// All policies by name, and the default policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Name of the policy for references that name none. Without it, their events have no verdict.
    pub default: Option<String>,
    /// Policies by name. A reference may name one of them.
    pub named: BTreeMap<String, PolicySettings>,
}

/// A policy whose threshold is meant for another formula than the configured one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the score_min of policy {name:?} is for the formula `{}`, and method.aggregation is `{}`; set \
     both to the same, with a threshold for its range",
    .meant_for.name(), .configured.name()
)]
pub struct FormulaMismatch {
    /// Name of the policy.
    pub name: String,
    /// Formula of its threshold.
    pub meant_for: Formula,
    /// Formula of the scores.
    pub configured: Formula,
}

/// A policy that names reasons, which are not measured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "policy {name:?} names reasons, and pipeline.reasons is off; turn it on, or remove \
     reject_reasons and review_reasons"
)]
pub struct ReasonsOff {
    /// Name of the policy.
    pub name: String,
}

/// A policy that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// No policy of this name is configured.
    #[error("policy {name:?} is not configured; known are: {known}")]
    Unknown {
        /// Requested name.
        name: String,
        /// Configured names.
        known: String,
    },
}

impl PolicyError {
    /// Returns the stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "policy.unknown",
        }
    }
}

/// A named policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    name: String,
    settings: PolicySettings,
}

impl Policies {
    /// Finds the policy of this name, or the default policy without a name. Returns `None` without
    /// a name and without a default.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`] if the given or default name is not configured.
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

    /// Checks that the default policy exists, if one is named.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`] if it does not exist.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.find(None).map(|_| ())
    }

    /// Checks that every minimum of the score is meant for this formula. Ratings of objects are
    /// levels by every formula.
    ///
    /// # Errors
    /// Fails with the first policy that is meant for another.
    pub fn check_formula(&self, configured: Formula) -> Result<(), FormulaMismatch> {
        let differs =
            |policy: &PolicySettings| policy.score_min.is_some() && policy.formula != configured;
        match self.named.iter().find(|(_, policy)| differs(policy)) {
            Some((name, PolicySettings { formula, .. })) => {
                Err(FormulaMismatch { name: name.clone(), meant_for: *formula, configured })
            }
            None => Ok(()),
        }
    }

    /// Checks that no policy names reasons, for a pipeline that does not measure them.
    ///
    /// # Errors
    /// Fails with the first policy that names any.
    pub fn check_without_reasons(&self) -> Result<(), ReasonsOff> {
        match self.named.iter().find(|(_, policy)| policy.names_reasons()) {
            Some((name, _)) => Err(ReasonsOff { name: name.clone() }),
            None => Ok(()),
        }
    }
}

impl Policy {
    /// Creates a policy.
    pub fn new(name: String, settings: PolicySettings) -> Self {
        Self { name, settings }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compares an assessment with the thresholds. The worst result decides.
    pub fn judge(&self, assessment: &Assessment) -> PolicyVerdict {
        let settings = &self.settings;
        let mut verdict = PolicyVerdict {
            policy: self.name.clone(),
            outcome: PolicyOutcome::Pass,
            reasons: Vec::new(),
        };
        if let Some(minimum) = settings.score_min {
            let score = match settings.basis {
                Basis::Level => assessment.score,
                Basis::Expected => assessment.score_expected,
            };
            verdict.merge(&self.compare(score, minimum), || format!("the score of {score:.2}"));
        }
        let Some(minimum) = settings.object_score_min else {
            return verdict;
        };
        for (index, object) in assessment.objects.iter().enumerate() {
            if self.checks(object) {
                let rating = self.value(&object.rating);
                verdict.merge(&self.compare(rating, minimum), || {
                    format!("{} rated {rating:.2}", object_name(index, object))
                });
            }
        }
        verdict
    }

    /// Adds the reasons of an image to its verdict: of each code the first that decides, which is
    /// that of the image if it has one. `None` are reasons that could not be measured. A policy
    /// that names reasons cannot pass such an image, so the outcome is at least `review`.
    pub fn with_reasons(
        &self,
        mut verdict: PolicyVerdict,
        assessment: &Assessment,
        reasons: Option<&[Reason]>,
    ) -> PolicyVerdict {
        let settings = &self.settings;
        let Some(reasons) = reasons else {
            if settings.names_reasons() {
                let relation = "were not measured".to_owned();
                let unknown = Comparison { outcome: PolicyOutcome::Review, relation };
                verdict.merge(&unknown, || "reasons".to_owned());
            }
            return verdict;
        };
        let mut named = BTreeSet::new();
        for reason in reasons {
            let part = match reason.scope {
                Scope::Image(_) => "the image".to_owned(),
                Scope::Region(index) => match assessment.objects.get(index as usize) {
                    Some(object) if self.checks(object) => object_name(index as usize, object),
                    _ => continue,
                },
            };
            let lists = [
                (PolicyOutcome::Reject, "reject_reasons", &settings.reject_reasons),
                (PolicyOutcome::Review, "review_reasons", &settings.review_reasons),
            ];
            let found = lists.into_iter().find_map(|(outcome, list, conditions)| {
                let condition = conditions.iter().find(|condition| condition.holds(reason))?;
                Some(Comparison { outcome, relation: format!("meets `{condition}` of {list}") })
            });
            if let Some(comparison) =
                found.filter(|found| named.insert((reason.code, found.outcome.name())))
            {
                let Reason { code, strength, .. } = reason;
                verdict.merge(&comparison, || format!("{part} is {code} ({strength:.2}) and"));
            }
        }
        verdict
    }

    /// Adapts the verdict on an image that was not segmented. A policy that checks objects, by
    /// their score or their reasons, cannot pass it, so the outcome is at least `review`.
    pub fn without_objects(&self, mut verdict: PolicyVerdict) -> PolicyVerdict {
        if self.settings.object_score_min.is_some() || self.settings.names_reasons() {
            let unknown = Comparison {
                outcome: PolicyOutcome::Review,
                relation: "were not looked for".to_owned(),
            };
            verdict.merge(&unknown, || "objects".to_owned());
        }
        verdict
    }

    /// Returns true for objects that are large enough.
    fn checks(&self, object: &ObjectAssessment) -> bool {
        object.region.kind == RegionKind::Object
            && object.region.mask.area_fraction() >= self.settings.object_area_fraction_min
    }

    fn value(&self, rating: &LevelDistribution) -> f64 {
        match self.settings.basis {
            Basis::Level => f64::from(rating.level()),
            Basis::Expected => rating.expected(),
        }
    }

    fn compare(&self, value: f64, minimum: f64) -> Comparison {
        let band = self.settings.review_band;
        let (outcome, relation) = if value < minimum - band {
            (PolicyOutcome::Reject, format!("is below the minimum of {minimum:.2}"))
        } else if value < minimum + band {
            (PolicyOutcome::Review, format!("is within {band:.2} of the minimum of {minimum:.2}"))
        } else {
            (PolicyOutcome::Pass, String::new())
        };
        Comparison { outcome, relation }
    }
}

fn object_name(index: usize, object: &ObjectAssessment) -> String {
    let percent = 100.0 * object.region.mask.area_fraction();
    format!("object {index} ({percent:.1} % of the image)")
}

/// The result of comparing a value with its threshold.
struct Comparison {
    outcome: PolicyOutcome,
    /// The reason, without its subject. Empty if the value passes.
    relation: String,
}

impl PolicyVerdict {
    /// Adds the result of one comparison: the worse outcome, and a reason unless it passes.
    fn merge(&mut self, comparison: &Comparison, subject: impl Fn() -> String) {
        match (self.outcome, comparison.outcome) {
            (_, PolicyOutcome::Pass) => return,
            (PolicyOutcome::Reject, _) => {}
            (_, worse) => self.outcome = worse,
        }
        self.reasons.push(format!("{} {}", subject(), comparison.relation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{Mask, ReasonCode, Region, Rle};

    fn rating(level: u8) -> LevelDistribution {
        let certain = (1..=7).map(|candidate| f64::from(u8::from(candidate == level)));
        LevelDistribution::new(certain.collect()).unwrap()
    }

    /// Creates an assessment of a picture of 100 pixels with objects of these areas and levels.
    fn assessment(score: f64, objects: &[(RegionKind, u32, u8)]) -> Assessment {
        let object = |&(kind, area_px, level): &(RegionKind, u32, u8)| {
            let rle = Rle::from_counts(10, 10, vec![0, area_px, 100 - area_px]).unwrap();
            let mask = Mask::new(rle).unwrap();
            ObjectAssessment { region: Region::new(kind, mask), rating: rating(level) }
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

    fn judge(settings: PolicySettings, assessment: &Assessment) -> PolicyVerdict {
        Policy::new("web".to_owned(), settings).judge(assessment)
    }

    #[test]
    fn a_minimum_of_another_formula_is_refused_by_name() {
        let with = |settings: PolicySettings| Policies {
            default: None,
            named: BTreeMap::from([("shop".to_owned(), settings)]),
        };
        let score = PolicySettings { score_min: Some(4.0), ..PolicySettings::default() };
        with(score.clone()).check_formula(Formula::Paper).unwrap();
        let error = with(score.clone()).check_formula(Formula::Release).unwrap_err().to_string();
        for part in ["\"shop\"", "`paper`", "`release`"] {
            assert!(error.contains(part), "{error}");
        }
        let release = PolicySettings { formula: Formula::Release, ..score };
        with(release.clone()).check_formula(Formula::Release).unwrap();
        with(release).check_formula(Formula::Tables).unwrap_err();
        let objects = PolicySettings { object_score_min: Some(3.0), ..PolicySettings::default() };
        with(objects).check_formula(Formula::Tables).unwrap();
    }

    #[test]
    fn an_unsegmented_image_passes_no_policy_that_checks_objects() {
        let checking = PolicySettings { object_score_min: Some(3.0), ..PolicySettings::default() };
        let by_reasons = PolicySettings {
            reject_reasons: vec!["blurred".parse().unwrap()],
            ..PolicySettings::default()
        };
        for (settings, outcome) in [
            (checking, PolicyOutcome::Review),
            (by_reasons, PolicyOutcome::Review),
            (PolicySettings::default(), PolicyOutcome::Pass),
        ] {
            let policy = Policy::new("web".to_owned(), settings);
            let verdict = policy.without_objects(policy.judge(&assessment(6.0, &[])));
            assert_eq!(verdict.outcome, outcome, "{:?}", verdict.reasons);
        }
    }

    #[test]
    fn reasons_of_the_image_and_of_large_objects_decide() {
        let conditions = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let settings = PolicySettings {
            reject_reasons: conditions(&["blurred", "too_dark:0.6"]),
            review_reasons: conditions(&["too_dark", "noisy"]),
            ..PolicySettings::default()
        };
        let policy = Policy::new("shop".to_owned(), settings);
        let objects = [
            (RegionKind::Object, 30, 4),
            (RegionKind::Object, 4, 4),
            (RegionKind::Remainder, 66, 4),
        ];
        let assessed = assessment(6.0, &objects);
        let judge = |reasons: &[(ReasonCode, f64, Scope)]| {
            let reason = |&(code, strength, scope)| Reason { code, strength, scope };
            let reasons: Vec<Reason> = reasons.iter().map(reason).collect();
            let verdict = policy.with_reasons(policy.judge(&assessed), &assessed, Some(&reasons));
            (verdict.outcome, verdict.reasons)
        };
        let text = |text: &str| vec![text.to_owned()];
        assert_eq!(judge(&[]), (PolicyOutcome::Pass, vec![]));
        assert_eq!(
            judge(&[(ReasonCode::TooDark, 0.7, Scope::IMAGE)]),
            (
                PolicyOutcome::Reject,
                text("the image is too_dark (0.70) and meets `too_dark:0.6` of reject_reasons")
            )
        );
        assert_eq!(
            judge(&[(ReasonCode::TooDark, 0.5, Scope::IMAGE)]),
            (
                PolicyOutcome::Review,
                text("the image is too_dark (0.50) and meets `too_dark` of review_reasons")
            )
        );
        assert_eq!(
            judge(&[(ReasonCode::Blurred, 0.3, Scope::Region(0))]),
            (
                PolicyOutcome::Reject,
                text(
                    "object 0 (30.0 % of the image) is blurred (0.30) and meets `blurred` of \
                     reject_reasons"
                )
            )
        );
        // Too small, the remainder, no such object, and a code that is not named.
        for index in [1, 2, 3] {
            let found = judge(&[(ReasonCode::Blurred, 0.9, Scope::Region(index))]);
            assert_eq!(found, (PolicyOutcome::Pass, vec![]), "object {index}");
        }
        let found = judge(&[(ReasonCode::Borders, 0.9, Scope::IMAGE)]);
        assert_eq!(found, (PolicyOutcome::Pass, vec![]));
        let (outcome, sentences) = judge(&[
            (ReasonCode::Noisy, 0.3, Scope::IMAGE),
            (ReasonCode::Blurred, 0.3, Scope::IMAGE),
            (ReasonCode::TooDark, 0.3, Scope::Region(0)),
            (ReasonCode::Blurred, 0.5, Scope::Region(0)),
        ]);
        assert_eq!((outcome, sentences.len()), (PolicyOutcome::Reject, 3), "{sentences:?}");
        assert!(sentences[1].starts_with("the image is blurred (0.30)"), "{sentences:?}");
    }

    #[test]
    fn an_image_without_measured_reasons_passes_no_policy_that_names_any() {
        let naming = PolicySettings {
            reject_reasons: vec!["blurred".parse().unwrap()],
            ..PolicySettings::default()
        };
        for (settings, outcome) in
            [(naming, PolicyOutcome::Review), (PolicySettings::default(), PolicyOutcome::Pass)]
        {
            let policy = Policy::new("web".to_owned(), settings);
            let assessed = assessment(6.0, &[]);
            let verdict = policy.with_reasons(policy.judge(&assessed), &assessed, None);
            assert_eq!(verdict.outcome, outcome, "{:?}", verdict.reasons);
        }
    }

    #[test]
    fn a_policy_that_names_reasons_is_refused_where_they_are_off() {
        let with = |settings: PolicySettings| Policies {
            default: None,
            named: BTreeMap::from([("shop".to_owned(), settings)]),
        };
        with(PolicySettings::default()).check_without_reasons().unwrap();
        let noisy = vec!["noisy:0.5".parse().unwrap()];
        let settings = PolicySettings { review_reasons: noisy, ..PolicySettings::default() };
        let error = with(settings).check_without_reasons().unwrap_err().to_string();
        for part in ["\"shop\"", "pipeline.reasons", "review_reasons"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_score_near_its_minimum_is_reviewed() {
        let settings =
            PolicySettings { score_min: Some(4.0), review_band: 0.5, ..PolicySettings::default() };
        let check = |score, outcome, reasons: &[&str]| {
            let verdict = judge(settings.clone(), &assessment(score, &[]));
            assert_eq!((verdict.outcome, verdict.reasons.len()), (outcome, reasons.len()));
            assert_eq!(verdict.reasons, reasons);
        };
        check(4.5, PolicyOutcome::Pass, &[]);
        let near = "is within 0.50 of the minimum of 4.00";
        check(4.49, PolicyOutcome::Review, &[&format!("the score of 4.49 {near}")]);
        check(3.5, PolicyOutcome::Review, &[&format!("the score of 3.50 {near}")]);
        check(3.4, PolicyOutcome::Reject, &["the score of 3.40 is below the minimum of 4.00"]);
    }

    #[test]
    fn without_a_band_the_minimum_itself_passes() {
        let settings =
            PolicySettings { score_min: Some(4.0), review_band: 0.0, ..PolicySettings::default() };
        assert_eq!(judge(settings.clone(), &assessment(4.0, &[])).outcome, PolicyOutcome::Pass);
        assert_eq!(judge(settings, &assessment(3.999, &[])).outcome, PolicyOutcome::Reject);
    }

    #[test]
    fn only_large_objects_are_checked() {
        let settings = PolicySettings {
            object_score_min: Some(4.0),
            object_area_fraction_min: 0.1,
            ..PolicySettings::default()
        };
        let small = (RegionKind::Object, 9, 1);
        let rest = (RegionKind::Remainder, 50, 1);
        let verdict = judge(settings.clone(), &assessment(1.0, &[small, rest]));
        assert_eq!((verdict.outcome, verdict.reasons.len()), (PolicyOutcome::Pass, 0));
        let large = (RegionKind::Object, 10, 3);
        let verdict = judge(settings, &assessment(1.0, &[small, large]));
        assert_eq!(verdict.outcome, PolicyOutcome::Reject);
        let reason = "object 1 (10.0 % of the image) rated 3.00 is below the minimum of 4.00";
        assert_eq!(verdict.reasons, [reason]);
    }

    #[test]
    fn the_worst_threshold_decides_and_every_missed_one_is_a_reason() {
        let settings = PolicySettings {
            score_min: Some(4.0),
            object_score_min: Some(4.0),
            ..PolicySettings::default()
        };
        let objects = [(RegionKind::Object, 30, 2), (RegionKind::Object, 30, 4)];
        let verdict = judge(settings, &assessment(4.1, &objects));
        assert_eq!((verdict.outcome, verdict.reasons.len()), (PolicyOutcome::Reject, 3));
    }

    #[test]
    fn the_basis_selects_the_compared_scores() {
        let settings =
            PolicySettings { score_min: Some(4.0), review_band: 0.0, ..PolicySettings::default() };
        let expected = PolicySettings { basis: Basis::Expected, ..settings.clone() };
        assert_eq!(judge(settings, &assessment(4.5, &[])).outcome, PolicyOutcome::Pass);
        assert_eq!(judge(expected, &assessment(4.5, &[])).outcome, PolicyOutcome::Reject);
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
    fn invalid_thresholds_are_refused() {
        for bad in [
            "{\"review_band\": -1}",
            "{\"object_area_fraction_min\": 2}",
            "{\"min\": 1}",
            "{\"reject_reasons\": [\"dark\"]}",
            "{\"review_reasons\": [\"too_dark:2\"]}",
        ] {
            assert!(serde_json::from_str::<PolicySettings>(bad).is_err(), "{bad}");
        }
    }
}
