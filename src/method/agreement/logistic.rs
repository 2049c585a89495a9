//! The four-parameter logistic that maps scores to opinions before a linear correlation, as in the
//! VQEG's reports: `f(x) = b2 + (b1 − b2) / (1 + exp(−(x − b3) / b4))`, fitted by least squares.
//!
//! Centre and width determine both levels by linear least squares, so only centre and width are
//! searched (variable projection). A coarse grid finds the global minimum's basin, and
//! Levenberg–Marquardt its minimum. Both axes are standardised first, so that the fit does not
//! depend on their units.

use serde::{Deserialize, Serialize};

use crate::method::agreement::error::AgreementError;
use crate::method::agreement::pairs::{check, range};

/// The end of the descent.
#[derive(Debug, Clone, Copy)]
struct Precision {
    /// Maximum number of Levenberg–Marquardt steps; a few dozen are usual.
    steps_max: usize,
    /// Relative gain of a step below which the descent ends.
    gain_min: f64,
}

/// Precision of a fit.
const EXACT: Precision = Precision { steps_max: 1000, gain_min: 1e-15 };
/// Precision of a fit to a resample, of which the spread matters.
const RESAMPLED: Precision = Precision { steps_max: 30, gain_min: 1e-8 };

/// Bounds of the logarithm of the width, in standard deviations of the scores. The widest curve is
/// a straight line to seven digits, the narrowest a step.
const LOG_WIDTH_MIN: f64 = -7.0;
const LOG_WIDTH_MAX: f64 = 7.0;

/// Maximum distance of the centre from the data, in widths. There the curve is an exponential to
/// six digits.
const CENTRE_WIDTHS_MAX: f64 = 16.0;

/// A fitted logistic curve, in the units of the data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logistic {
    /// Limit for large scores, b1.
    pub upper: f64,
    /// Limit for small scores, b2. Above `upper` if the curve falls.
    pub lower: f64,
    /// Score at the middle of the curve, b3.
    pub centre: f64,
    /// Width of the curve, b4. Above 0.
    pub width: f64,
}

impl Logistic {
    /// Fits the curve that maps scores to opinions with the smallest sum of squares.
    ///
    /// # Errors
    /// Fails on lists of different length, fewer than 5 pairs, or values that are not finite or all
    /// equal.
    pub fn fit(scores: &[f64], opinions: &[f64]) -> Result<Self, AgreementError> {
        Self::fit_from(scores, opinions, EXACT, |data, _| best_of_grid(data))
    }

    /// Fits the curve by descending from this one, which was fitted to similar data. Much faster
    /// than [`Logistic::fit`], and less exact; finds the minimum of the same basin.
    ///
    /// # Errors
    /// Fails like [`Logistic::fit`].
    pub fn refit(&self, scores: &[f64], opinions: &[f64]) -> Result<Self, AgreementError> {
        Self::fit_from(scores, opinions, RESAMPLED, |data, x_scale| {
            let log_width = (self.width / x_scale.deviation).ln();
            let shape = Shape { centre: x_scale.standardise(self.centre), log_width };
            shape.within_bounds(data.x_range)
        })
    }

    fn fit_from(
        scores: &[f64],
        opinions: &[f64],
        precision: Precision,
        start: impl FnOnce(&StandardisedPairs, &Standardisation) -> Shape,
    ) -> Result<Self, AgreementError> {
        check(scores, opinions, 5)?;
        let x_scale =
            Standardisation::of(scores).ok_or(AgreementError::Constant { what: "scores" })?;
        let y_scale =
            Standardisation::of(opinions).ok_or(AgreementError::Constant { what: "opinions" })?;
        let x: Vec<f64> = scores.iter().map(|&score| x_scale.standardise(score)).collect();
        let y = opinions.iter().map(|&opinion| y_scale.standardise(opinion)).collect();
        let data = StandardisedPairs { x_range: range(&x), x, y };
        let shape = descend(&data, start(&data, &x_scale), precision);
        let (lower, upper) = Projection::of(&data, shape).levels();
        Ok(Self {
            upper: y_scale.restore(upper),
            lower: y_scale.restore(lower),
            centre: x_scale.restore(shape.centre),
            width: shape.log_width.exp() * x_scale.deviation,
        })
    }

    /// Returns the opinion that the curve predicts for a score.
    pub fn map(&self, score: f64) -> f64 {
        self.lower + (self.upper - self.lower) * sigmoid((score - self.centre) / self.width)
    }
}

/// Mean and standard deviation of one axis.
struct Standardisation {
    mean: f64,
    deviation: f64,
}

impl Standardisation {
    fn of(values: &[f64]) -> Option<Self> {
        let (low, high) = range(values);
        if low >= high {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|value| value / count).sum::<f64>();
        let variance = values.iter().map(|value| (value - mean).powi(2) / count).sum::<f64>();
        (variance.is_normal()).then(|| Self { mean, deviation: variance.sqrt() })
    }

    fn standardise(&self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }

    fn restore(&self, value: f64) -> f64 {
        value * self.deviation + self.mean
    }
}

/// Scores and opinions, each with mean 0 and standard deviation 1.
struct StandardisedPairs {
    x: Vec<f64>,
    x_range: (f64, f64),
    y: Vec<f64>,
}

/// The two parameters that are searched.
#[derive(Debug, Clone, Copy)]
struct Shape {
    centre: f64,
    log_width: f64,
}

impl Shape {
    fn within_bounds(self, (low, high): (f64, f64)) -> Self {
        let log_width = self.log_width.clamp(LOG_WIDTH_MIN, LOG_WIDTH_MAX);
        let reach = CENTRE_WIDTHS_MAX * log_width.exp();
        Self { centre: self.centre.clamp(low - reach, high + reach), log_width }
    }
}

/// The curve of a shape with its best levels, by linear least squares.
struct Projection {
    shape: Shape,
    /// The curve minus its mean, scaled to length 1. All zeros if the curve is flat over the data.
    direction: Vec<f64>,
    /// Coefficient of `direction` in the best curve.
    coefficient: f64,
    /// Mean of the curve and its length before scaling.
    mean: f64,
    length: f64,
    /// True if the curve is computed relative to its upper level, to keep it from rounding away.
    from_above: bool,
    residuals: Vec<f64>,
}

impl Projection {
    fn of(data: &StandardisedPairs, shape: Shape) -> Self {
        let width = shape.log_width.exp();
        let from_above = shape.centre < 0.0;
        let curve = data.x.iter().map(|x| {
            let z = (x - shape.centre) / width;
            if from_above { -sigmoid(-z) } else { sigmoid(z) }
        });
        let curve: Vec<f64> = curve.collect();
        let mean = mean_of(&curve);
        let centred: Vec<f64> = curve.iter().map(|value| value - mean).collect();
        let length = dot(&centred, &centred).sqrt();
        // A curve that is flat except for rounding explains nothing.
        let scale = if length > 1e-12 * mean.abs() { 1.0 / length } else { 0.0 };
        let direction: Vec<f64> = centred.iter().map(|value| value * scale).collect();
        let coefficient = dot(&direction, &data.y);
        let residuals =
            data.y.iter().zip(&direction).map(|(y, along)| y - coefficient * along).collect();
        Self { shape, direction, coefficient, mean, length, from_above, residuals }
    }

    fn sum_of_squares(&self) -> f64 {
        dot(&self.residuals, &self.residuals)
    }

    /// Returns the lower and the upper level.
    fn levels(&self) -> (f64, f64) {
        let rise = if self.length > 0.0 { self.coefficient / self.length } else { 0.0 };
        let at_zero = -rise * self.mean;
        if self.from_above { (at_zero - rise, at_zero) } else { (at_zero, at_zero + rise) }
    }

    /// Returns the derivatives of the best curve by centre and by logarithm of the width, projected
    /// orthogonally to changes of the levels (Kaufman 1975).
    fn derivatives(&self, data: &StandardisedPairs) -> [Vec<f64>; 2] {
        let width = self.shape.log_width.exp();
        let rise = if self.length > 0.0 { self.coefficient / self.length } else { 0.0 };
        let (by_centre, by_width) = data
            .x
            .iter()
            .map(|x| {
                let z = (x - self.shape.centre) / width;
                let slope = -rise * sigmoid(z) * sigmoid(-z);
                (slope / width, slope * z)
            })
            .unzip();
        [by_centre, by_width].map(|column: Vec<f64>| {
            // Centred before the product: the mean of a column can dwarf its variation.
            let mean = mean_of(&column);
            let centred: Vec<f64> = column.iter().map(|value| value - mean).collect();
            let along = dot(&centred, &self.direction);
            let rest = |(value, direction): (&f64, &f64)| value - along * direction;
            centred.iter().zip(&self.direction).map(rest).collect()
        })
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn mean_of(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns the best shape of a grid of centres and widths.
fn best_of_grid(data: &StandardisedPairs) -> Shape {
    let (low, high) = data.x_range;
    let mut best = (f64::INFINITY, Shape { centre: 0.0, log_width: 0.0 });
    for centre_step in 0_u8..=20 {
        // From half a range below the data to half a range above it.
        let centre = low + (high - low) * (f64::from(centre_step) / 10.0 - 0.5);
        for log_width in [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0] {
            let shape = Shape { centre, log_width }.within_bounds(data.x_range);
            let squares = Projection::of(data, shape).sum_of_squares();
            if squares < best.0 {
                best = (squares, shape);
            }
        }
    }
    best.1
}

/// Runs Levenberg–Marquardt. The result is never worse than the start.
fn descend(data: &StandardisedPairs, start: Shape, precision: Precision) -> Shape {
    let mut here = Projection::of(data, start);
    let mut damping = 1e-3;
    for _ in 0..precision.steps_max {
        let Some(candidate) = step(data, &here, damping) else { break };
        let candidate = Projection::of(data, candidate);
        let gain = here.sum_of_squares() - candidate.sum_of_squares();
        if gain > 0.0 {
            let is_converged = gain < precision.gain_min * here.sum_of_squares();
            here = candidate;
            damping = (damping / 10.0).max(1e-12);
            if is_converged {
                break;
            }
        } else {
            damping *= 10.0;
            // No step reduces the error, however small: this is the minimum.
            if damping > 1e12 {
                break;
            }
        }
    }
    here.shape
}

/// Computes one damped Gauss–Newton step. Returns `None` if the curve depends on neither parameter.
fn step(data: &StandardisedPairs, here: &Projection, damping: f64) -> Option<Shape> {
    let [by_centre, by_width] = here.derivatives(data);
    let (cc, ww) = (dot(&by_centre, &by_centre), dot(&by_width, &by_width));
    let cw = dot(&by_centre, &by_width);
    let (c, w) = (dot(&by_centre, &here.residuals), dot(&by_width, &here.residuals));
    let (damped_cc, damped_ww) = (cc * (1.0 + damping), ww * (1.0 + damping));
    let determinant = damped_cc * damped_ww - cw * cw;
    let centre = (c * damped_ww - w * cw) / determinant;
    let log_width = (w * damped_cc - c * cw) / determinant;
    (centre.is_finite() && log_width.is_finite()).then(|| {
        let shape = here.shape;
        Shape { centre: shape.centre + centre, log_width: shape.log_width + log_width }
            .within_bounds(data.x_range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_without_noise_is_recovered() {
        for (upper, lower) in [(90.0, 10.0), (10.0, 90.0)] {
            let truth = Logistic { upper, lower, centre: 4.0, width: 0.8 };
            let scores: Vec<f64> = (0_u8..40).map(|step| f64::from(step) * 0.2).collect();
            let opinions: Vec<f64> = scores.iter().map(|&score| truth.map(score)).collect();
            let fitted = Logistic::fit(&scores, &opinions).unwrap();
            for (found, expected) in [
                (fitted.upper, upper),
                (fitted.lower, lower),
                (fitted.centre, truth.centre),
                (fitted.width, truth.width),
            ] {
                assert!((found - expected).abs() < 1e-4, "{fitted:?}");
            }
        }
    }

    #[test]
    fn a_step_and_a_distant_outlier_do_not_break_the_fit() {
        let step = Logistic::fit(&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.0, 0.0, 0.0, 9.0, 9.0]).unwrap();
        assert!((step.map(1.0)).abs() < 1e-3 && (step.map(5.0) - 9.0).abs() < 1e-3, "{step:?}");
        let far = Logistic::fit(&[0.0, 1.0, 2.0, 3.0, 1e9], &[1.0, 2.0, 1.0, 2.0, 7.0]).unwrap();
        assert!((far.map(1e9) - 7.0).abs() < 1e-3, "{far:?}");
    }
}
