//! A scorer's answer: a probability for each of the K levels.

use thiserror::Error;

/// Most levels that a distribution can have; the levels are single digits in the prompt.
pub const LEVELS_MAX: usize = 9;

/// How far from 1 a sum of probabilities may be before it is refused rather than renormalised.
const SUM_TOLERANCE: f64 = 1e-6;

/// Numbers that are no distribution over levels.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LevelsError {
    /// Too few or too many numbers.
    #[error("{count} levels, a distribution has 2 to {LEVELS_MAX}")]
    Count {
        /// How many there were.
        count: usize,
    },
    /// A number that is not finite, or a negative probability.
    #[error("level {level} has the value {value}; it must be finite, and a probability at least 0")]
    Value {
        /// The level, from 1.
        level: usize,
        /// Its number.
        value: f64,
    },
    /// A second opinion that is no number.
    #[error("the direction is {value}; it must be finite")]
    Direction {
        /// What it is.
        value: f64,
    },
    /// Probabilities that do not sum to 1.
    #[error("probabilities sum to {sum}, not to 1 within {SUM_TOLERANCE}")]
    Sum {
        /// Their sum.
        sum: f64,
    },
}

/// Probabilities of the levels 1..=K, K in 2..=9; finite, at least 0, summing to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelDistribution {
    probabilities: Vec<f64>,
    direction: Option<f64>,
}

impl LevelDistribution {
    /// Takes probabilities of the levels 1, 2, … in this order, and divides them by their sum.
    ///
    /// # Errors
    /// Fewer than 2 or more than 9 numbers, one that is negative or not finite, a sum further than
    /// 10⁻⁶ from 1.
    pub fn new(probabilities: Vec<f64>) -> Result<Self, LevelsError> {
        check_count(probabilities.len())?;
        for (index, &value) in probabilities.iter().enumerate() {
            if !value.is_finite() || value < 0.0 {
                return Err(LevelsError::Value { level: index + 1, value });
            }
        }
        let sum: f64 = probabilities.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(LevelsError::Sum { sum });
        }
        Ok(Self::normalised(probabilities, sum))
    }

    /// The softmax of one logit per level, computed around the largest so that nothing overflows.
    ///
    /// # Errors
    /// Fewer than 2 or more than 9 logits, or one that is not finite.
    pub fn from_logits(logits: &[f64]) -> Result<Self, LevelsError> {
        check_count(logits.len())?;
        for (index, &value) in logits.iter().enumerate() {
            if !value.is_finite() {
                return Err(LevelsError::Value { level: index + 1, value });
            }
        }
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum = weights.iter().sum();
        Ok(Self::normalised(weights, sum))
    }

    /// `+ 0.0` turns a negative zero into zero, so that no event ever shows `-0.0`.
    fn normalised(weights: Vec<f64>, sum: f64) -> Self {
        let probabilities = weights.into_iter().map(|weight| weight / sum + 0.0).collect();
        Self { probabilities, direction: None }
    }

    /// The same with a second opinion: how far the scorer's words point from bad to good quality.
    ///
    /// # Errors
    /// One that is not finite.
    pub fn with_direction(mut self, direction: f64) -> Result<Self, LevelsError> {
        if !direction.is_finite() {
            return Err(LevelsError::Direction { value: direction });
        }
        self.direction = Some(direction);
        Ok(self)
    }

    /// The second opinion, if the scorer was asked for it. Larger is better; its scale is the model's.
    pub fn direction(&self) -> Option<f64> {
        self.direction
    }

    /// Probability of each level, from level 1 to level K.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// Number of levels, K.
    pub fn levels(&self) -> u8 {
        // The constructors allow at most 9.
        u8::try_from(self.probabilities.len()).unwrap_or(u8::MAX)
    }

    /// The most probable level, in 1..=K; of equals the lowest.
    pub fn level(&self) -> u8 {
        let mut best = (1, 0.0);
        for (level, &probability) in (1_u8..).zip(&self.probabilities) {
            if probability > best.1 {
                best = (level, probability);
            }
        }
        best.0
    }

    /// The mean of the levels under the distribution, in 1..=K.
    pub fn expected(&self) -> f64 {
        let numbered = self.probabilities.iter().zip(1_u8..);
        let mean: f64 = numbered.map(|(probability, level)| probability * f64::from(level)).sum();
        mean.clamp(1.0, f64::from(self.levels()))
    }

    /// Probability of the most probable level, in 1/K..=1.
    pub fn confidence(&self) -> f64 {
        self.probabilities[usize::from(self.level()) - 1]
    }

    /// Shannon entropy in nats: 0 when one level is certain, ln K when all are alike.
    pub fn entropy(&self) -> f64 {
        let terms = self.probabilities.iter().filter(|probability| **probability > 0.0);
        let sum: f64 = terms.map(|probability| probability * probability.ln()).sum();
        (-sum).max(0.0)
    }
}

fn check_count(count: usize) -> Result<(), LevelsError> {
    if (2..=LEVELS_MAX).contains(&count) { Ok(()) } else { Err(LevelsError::Count { count }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_level_is_the_most_probable_one_and_of_equals_the_lowest() {
        let level = |p: &[f64]| LevelDistribution::new(p.to_vec()).unwrap().level();
        assert_eq!(level(&[0.1, 0.2, 0.7]), 3);
        assert_eq!(level(&[0.4, 0.2, 0.4]), 1);
        assert_eq!(level(&[0.5, 0.5]), 1);
    }

    #[test]
    fn expectation_confidence_and_entropy_are_those_of_the_textbook() {
        let rating = LevelDistribution::new(vec![0.25, 0.25, 0.5]).unwrap();
        assert!((rating.expected() - 2.25).abs() < 1e-15);
        assert!((rating.confidence() - 0.5).abs() < 1e-15);
        assert!((rating.entropy() - 1.5 * 2_f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn a_certain_answer_has_no_entropy_and_a_flat_one_has_the_most() {
        let certain = LevelDistribution::new(vec![0.0, 1.0, 0.0]).unwrap();
        assert_eq!((certain.entropy(), certain.expected()), (0.0, 2.0));
        let flat = LevelDistribution::from_logits(&[5.0; 7]).unwrap();
        assert!((flat.entropy() - 7_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn numbers_that_are_no_distribution_are_refused() {
        for bad in [vec![], vec![1.0], vec![0.1; 10]] {
            assert!(matches!(LevelDistribution::new(bad), Err(LevelsError::Count { .. })));
        }
        for bad in [vec![-0.1, 1.1], vec![f64::NAN, 1.0], vec![f64::INFINITY, 0.0]] {
            assert!(matches!(LevelDistribution::new(bad), Err(LevelsError::Value { .. })));
        }
        assert!(matches!(LevelDistribution::new(vec![0.4, 0.4]), Err(LevelsError::Sum { .. })));
        assert!(LevelDistribution::from_logits(&[f64::NEG_INFINITY, 0.0]).is_err());
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let rating = LevelDistribution::from_logits(&[1e300, -1e300, 1e300]).unwrap();
        assert_eq!(rating.probabilities(), [0.5, 0.0, 0.5]);
    }

    proptest! {
        #[test]
        fn every_number_stays_within_its_range(logits in prop::collection::vec(-50.0..50.0_f64, 2..=9)) {
            let rating = LevelDistribution::from_logits(&logits).unwrap();
            let k = f64::from(rating.levels());
            prop_assert!((rating.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!((1.0..=k).contains(&rating.expected()));
            prop_assert!((1..=rating.levels()).contains(&rating.level()));
            prop_assert!(rating.confidence() >= 1.0 / k - 1e-12 && rating.confidence() <= 1.0);
            prop_assert!((0.0..=k.ln() + 1e-12).contains(&rating.entropy()));
            prop_assert_eq!(LevelDistribution::new(rating.probabilities().to_vec()).unwrap().level(), rating.level());
        }
    }
}
