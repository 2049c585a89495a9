//! The map from scores to people's scale of opinions, such as a mean opinion score (MOS).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::method::aggregate::Assessment;
use crate::method::agreement::Logistic;
use crate::method::formula::Formula;
use crate::method::policy::Basis;

/// Maximum number of points of a curve.
const POINTS_MAX: usize = 1000;

/// A curve that maps scores to opinions, fitted by `dogiqa calibrate`. It holds for one engine, one
/// standard and one formula.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationSettings {
    /// Formula of the score that the curve maps, as in `method.policies`. The worker does not start
    /// with another formula, because the ranges differ.
    pub formula: Formula,
    /// Score that the curve maps: `level` or `expected`.
    pub basis: Basis,
    /// Points `[score, opinion]` in ascending order, between which the curve is linear. Beyond them
    /// it is constant. From 2 to 1,000 points; opinions never fall. Exclusive with `logistic`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<(f64, f64)>,
    /// The four numbers of a logistic curve, `lower + (upper − lower) / (1 + exp(−(score − centre)
    /// / width))`. Exclusive with `points`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logistic: Option<Logistic>,
}

/// A curve that cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CalibrationError {
    /// Both forms, or none.
    #[error("give either `points` or `logistic`; `dogiqa calibrate` writes them")]
    Form,
    /// The points are no curve.
    #[error(
        "`points` needs 2 to {POINTS_MAX} finite pairs with ascending scores and opinions that \
         never fall"
    )]
    Points,
    /// The logistic is no curve.
    #[error("`logistic` needs finite numbers and a width above 0")]
    Logistic,
    /// The curve is meant for other scores.
    #[error(
        "the curve is for the formula `{}`, and method.aggregation is `{}`; calibrate again",
        .meant_for.name(), .configured.name()
    )]
    Formula {
        /// Formula of the curve.
        meant_for: Formula,
        /// Formula of the scores.
        configured: Formula,
    },
}

impl CalibrationSettings {
    /// Checks that the settings are one curve for scores of this formula.
    ///
    /// # Errors
    /// Fails if they are both curves or none, if a curve is not ascending or not finite, or if it
    /// is for another formula.
    pub fn check(&self, configured: Formula) -> Result<(), CalibrationError> {
        if self.formula != configured {
            let meant_for = self.formula;
            return Err(CalibrationError::Formula { meant_for, configured });
        }
        match (&self.logistic, self.points.as_slice()) {
            (None, []) | (Some(_), [_, ..]) => Err(CalibrationError::Form),
            (None, points) => {
                let is_finite = points.iter().all(|(x, y)| x.is_finite() && y.is_finite());
                let is_ascending =
                    points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                let is_curve =
                    is_finite && is_ascending && (2..=POINTS_MAX).contains(&points.len());
                if is_curve { Ok(()) } else { Err(CalibrationError::Points) }
            }
            (Some(curve), []) => {
                let numbers = [curve.upper, curve.lower, curve.centre, curve.width];
                let is_curve = numbers.iter().all(|number| number.is_finite()) && curve.width > 0.0;
                if is_curve { Ok(()) } else { Err(CalibrationError::Logistic) }
            }
        }
    }

    /// Returns the opinion that the curve predicts for an assessment.
    pub fn opinion(&self, assessment: &Assessment) -> f64 {
        self.map(match self.basis {
            Basis::Level => assessment.score,
            Basis::Expected => assessment.score_expected,
        })
    }

    /// Returns the opinion that the curve predicts for a score.
    pub fn map(&self, score: f64) -> f64 {
        match self.logistic {
            Some(curve) => curve.map(score),
            None => interpolate(&self.points, score),
        }
    }
}

/// Interpolates linearly between ascending points, constant beyond them.
fn interpolate(points: &[(f64, f64)], x: f64) -> f64 {
    let above = points.partition_point(|point| point.0 < x);
    match (above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)) {
        (Some(below), Some(above)) => {
            let share = (x - below.0) / (above.0 - below.0);
            below.1 + share * (above.1 - below.1)
        }
        (Some(end), None) | (None, Some(end)) => end.1,
        (None, None) => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_points(points: &[(f64, f64)]) -> CalibrationSettings {
        CalibrationSettings {
            formula: Formula::Paper,
            basis: Basis::Expected,
            points: points.to_vec(),
            logistic: None,
        }
    }

    #[test]
    fn the_curve_is_linear_between_its_points_and_constant_beyond_them() {
        let curve = with_points(&[(1.0, 10.0), (3.0, 30.0), (4.0, 30.0)]);
        curve.check(Formula::Paper).unwrap();
        for (score, opinion) in [(0.0, 10.0), (1.0, 10.0), (2.0, 20.0), (3.5, 30.0), (9.0, 30.0)] {
            assert!((curve.map(score) - opinion).abs() < 1e-12, "{score}");
        }
    }

    #[test]
    fn settings_that_are_no_curve_are_refused() {
        let check = |curve: &CalibrationSettings| curve.check(Formula::Paper).unwrap_err();
        for points in [&[(1.0, 1.0)][..], &[(2.0, 1.0), (1.0, 2.0)], &[(1.0, 2.0), (2.0, 1.0)]] {
            assert_eq!(check(&with_points(points)), CalibrationError::Points, "{points:?}");
        }
        assert_eq!(check(&with_points(&[])), CalibrationError::Form);
        let flat = Logistic { upper: 2.0, lower: 1.0, centre: 0.0, width: 0.0 };
        let logistic = CalibrationSettings { logistic: Some(flat), ..with_points(&[]) };
        assert_eq!(check(&logistic), CalibrationError::Logistic);
        let error = with_points(&[(1.0, 1.0), (2.0, 2.0)]).check(Formula::Release).unwrap_err();
        assert!(error.to_string().contains("`paper`"), "{error}");
    }
}
