//! The weight of the number of masks for the data at hand.

use std::num::NonZeroUsize;

use fastrand::Rng;

use crate::evaluation::bootstrap::{Bootstrap, Interval, quantile};
use crate::evaluation::error::EvaluationError;
use crate::method::agreement::srcc;

/// Weights that are tried: 0 to 0.5 points for each mask.
const STEPS: u32 = 100;
const STEP: f64 = 0.005;
/// Maximum number of resamples: each tries all weights.
const RESAMPLES_MAX: NonZeroUsize = NonZeroUsize::new(200).expect("200 is not 0");
/// Number of parts of the cross-validation.
const FOLDS: usize = 5;

/// Distribution of the number of masks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskCounts {
    /// Smallest number.
    pub least: f64,
    /// Half of the images have fewer.
    pub median: f64,
    /// Mean number.
    pub mean: f64,
    /// 95 % of the images have fewer.
    pub percentile_95: f64,
    /// Largest number; the paper's `c_max`.
    pub most: f64,
}

/// The weight with the best rank correlation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskWeight {
    /// Points for each mask.
    pub weight: f64,
    /// 95 % interval of the weight, from resampled images.
    pub interval: Option<Interval>,
    /// Rank correlation with the weight of each fold chosen on the other four. It does not flatter.
    pub srcc: f64,
    /// Rank correlation without points for masks.
    pub srcc_without: f64,
}

/// Returns the distribution of the number of masks. Returns `None` without images.
pub fn mask_counts(counts: &[f64]) -> Option<MaskCounts> {
    let mut sorted = counts.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(MaskCounts {
        least: *sorted.first()?,
        median: quantile(&sorted, 0.5)?,
        mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
        percentile_95: quantile(&sorted, 0.95)?,
        most: *sorted.last()?,
    })
}

/// Finds the points for each mask that maximise the rank correlation. `scores` are the scores
/// without points for masks. The correlation is cross-validated with 5 folds.
///
/// # Errors
/// Fails on fewer than 20 images, and on opinions or scores that are all equal.
pub fn best_mask_weight(
    scores: &[f64],
    counts: &[f64],
    opinions: &[f64],
    bootstrap: &Bootstrap,
) -> Result<MaskWeight, EvaluationError> {
    let needed = 4 * FOLDS;
    if scores.len() < needed {
        let found = scores.len();
        return Err(crate::method::agreement::AgreementError::TooFew { found, needed }.into());
    }
    let all: Vec<usize> = (0..scores.len()).collect();
    let data = Data { scores, counts, opinions };
    let srcc_without = data.srcc(&all, 0.0).ok_or_else(|| no_variation(&data, &all))?;
    let weight = data.best_weight(&all).ok_or_else(|| no_variation(&data, &all))?;
    let bootstrap = Bootstrap { resamples: bootstrap.resamples.min(RESAMPLES_MAX), ..*bootstrap };
    let resampled = bootstrap.run(scores.len(), |drawn| data.best_weight(drawn));
    Ok(MaskWeight {
        weight,
        interval: Interval::of(resampled),
        srcc: data.cross_validated(&all, bootstrap.seed)?,
        srcc_without,
    })
}

struct Data<'a> {
    scores: &'a [f64],
    counts: &'a [f64],
    opinions: &'a [f64],
}

impl Data<'_> {
    fn with_weight(&self, images: &[usize], weight: f64) -> Vec<f64> {
        images.iter().map(|&index| self.scores[index] + weight * self.counts[index]).collect()
    }

    fn opinions(&self, images: &[usize]) -> Vec<f64> {
        images.iter().map(|&index| self.opinions[index]).collect()
    }

    fn srcc(&self, images: &[usize], weight: f64) -> Option<f64> {
        srcc(&self.with_weight(images, weight), &self.opinions(images)).ok()
    }

    /// Returns the smallest of the best weights.
    fn best_weight(&self, images: &[usize]) -> Option<f64> {
        let mut best: Option<(f64, f64)> = None;
        for step in 0..=STEPS {
            let weight = f64::from(step) * STEP;
            let srcc = self.srcc(images, weight)?;
            if best.is_none_or(|(_, of_best)| srcc > of_best) {
                best = Some((weight, srcc));
            }
        }
        best.map(|(weight, _)| weight)
    }

    /// Returns the rank correlation of scores whose weight was chosen on other images.
    fn cross_validated(&self, all: &[usize], seed: u64) -> Result<f64, EvaluationError> {
        let mut shuffled = all.to_vec();
        Rng::with_seed(seed).shuffle(&mut shuffled);
        let mut scores = vec![0.0; all.len()];
        for fold in 0..FOLDS {
            let is_held_out = |position: usize| position % FOLDS == fold;
            let (mut held_out, mut others) = (Vec::new(), Vec::new());
            for (position, &index) in shuffled.iter().enumerate() {
                if is_held_out(position) { held_out.push(index) } else { others.push(index) }
            }
            let weight = self.best_weight(&others).unwrap_or(0.0);
            for index in held_out {
                scores[index] = self.scores[index] + weight * self.counts[index];
            }
        }
        Ok(srcc(&scores, self.opinions)?)
    }
}

fn no_variation(data: &Data<'_>, images: &[usize]) -> EvaluationError {
    match srcc(&data.with_weight(images, 0.0), &data.opinions(images)) {
        Err(error) => error.into(),
        Ok(_) => crate::method::agreement::AgreementError::Constant { what: "scores" }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_weight_is_found_and_does_not_flatter() {
        let mut random = Rng::with_seed(5);
        let scores: Vec<f64> = (0..400).map(|_| 1.0 + 6.0 * random.f64()).collect();
        let counts: Vec<f64> = (0..400).map(|_| f64::from(random.u8(1..30))).collect();
        let opinions: Vec<f64> =
            scores.iter().zip(&counts).map(|(score, count)| score + 0.1 * count).collect();
        let bootstrap = Bootstrap { resamples: 40.try_into().unwrap(), seed: 1 };
        let best = best_mask_weight(&scores, &counts, &opinions, &bootstrap).unwrap();
        assert!((best.weight - 0.1).abs() < 1e-9, "{best:?}");
        assert!(best.srcc > 0.999 && best.srcc_without < best.srcc, "{best:?}");

        let unrelated: Vec<f64> = (0..400).map(|_| random.f64()).collect();
        let none = best_mask_weight(&scores, &counts, &unrelated, &bootstrap).unwrap();
        assert!(none.srcc < 0.15, "{none:?}");
    }
}
