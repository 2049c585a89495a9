//! A rating: a probability for each of the K levels.

use std::sync::Arc;

use thiserror::Error;

use crate::method::answer::GeneratedAnswer;

/// Maximum number of levels; the prompt needs them as single digits.
pub const LEVELS_MAX: usize = 9;

/// Maximum deviation of a sum of probabilities from 1 that is renormalised rather than refused.
const SUM_TOLERANCE: f64 = 1e-6;

/// Numbers that are not a distribution over levels.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LevelsError {
    /// There are too few or too many numbers.
    #[error("{count} levels, a distribution has 2 to {LEVELS_MAX}")]
    Count {
        /// Number of values.
        count: usize,
    },
    /// A value is not finite, or a probability is negative.
    #[error("level {level} has the value {value}; it must be finite, and a probability at least 0")]
    Value {
        /// Level, from 1.
        level: usize,
        /// Value of the level.
        value: f64,
    },
    /// The direction is not finite.
    #[error("the direction is {value}; it must be finite")]
    Direction {
        /// Value of the direction.
        value: f64,
    },
    /// The share of probability on no level is not in 0..=1.
    #[error("the probability on no level is {value}; it must be in 0..=1")]
    OffLevel {
        /// Value of the share.
        value: f64,
    },
    /// The share of probability that the server did not report is not in 0..=1.
    #[error("the probability of tokens that were not reported is {value}; it must be in 0..=1")]
    Unreported {
        /// Value of the share.
        value: f64,
    },
    /// The probabilities do not sum to 1.
    #[error("probabilities sum to {sum}, not to 1 within {SUM_TOLERANCE}")]
    Sum {
        /// Sum of the probabilities.
        sum: f64,
    },
}

/// A scorer's own score, from which its levels were derived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawScore {
    /// The score on the scale of the model's authors, larger is better.
    pub value: f64,
    /// Name of the mapping from the model's answers to levels.
    pub mapping: &'static str,
}

/// A scorer's answer to another question about the same crop.
#[derive(Debug, Clone, PartialEq)]
pub struct FurtherRating {
    /// The question, such as `aesthetics`.
    pub question: &'static str,
    /// The answer, on the same levels.
    pub rating: LevelDistribution,
}

/// A property of a crop that a scorer measures in addition to its rating.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attribute {
    /// The property, such as `bright`.
    pub name: &'static str,
    /// Its probability against the opposite.
    pub probability: f64,
}

/// A scoring server as its answers describe it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServedBy {
    /// The model's name in the answer.
    pub model: Option<String>,
    /// The server's fingerprint of model and configuration.
    pub system_fingerprint: Option<String>,
}

/// The origin of a distribution that a scoring server reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The server.
    pub by: Arc<ServedBy>,
    /// Share of the model's probability on tokens that the server did not report, in 0..=1. `None`
    /// if it reports no probabilities: the distribution is then its most probable level alone.
    pub unreported: Option<f64>,
}

/// Probabilities of the levels 1..=K, K in 2..=9; finite, at least 0, summing to 1. A scorer may
/// add what else it knows about its rating.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelDistribution {
    probabilities: Vec<f64>,
    off_level: Option<f64>,
    answer: Option<GeneratedAnswer>,
    direction: Option<f64>,
    raw: Option<RawScore>,
    served: Option<Served>,
    further: Vec<FurtherRating>,
    attributes: Vec<Attribute>,
}

impl LevelDistribution {
    /// Creates a distribution from the probabilities of the levels 1, 2, …, normalised to sum 1.
    ///
    /// # Errors
    /// Fails on fewer than 2 or more than 9 values, on a negative or not finite value, or on a sum
    /// further than 10⁻⁶ from 1.
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

    /// Creates a distribution from the [`probabilities`](Self::probabilities) of another one, bit
    /// for bit: dividing them by their sum once more could change the last digit.
    ///
    /// # Errors
    /// Fails like [`new`](Self::new).
    pub fn restored(probabilities: Vec<f64>) -> Result<Self, LevelsError> {
        let checked = Self::new(probabilities.clone())?;
        Ok(Self { probabilities, ..checked })
    }

    /// Creates a distribution by softmax from one logit per level. Subtracts the largest logit
    /// first, to avoid overflow.
    ///
    /// # Errors
    /// Fails on fewer than 2 or more than 9 logits, or on one that is not finite.
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

    /// Divides weights by their sum. `+ 0.0` turns a negative zero into zero, so that no event
    /// shows `-0.0`.
    fn normalised(weights: Vec<f64>, sum: f64) -> Self {
        let probabilities = weights.into_iter().map(|weight| weight / sum + 0.0).collect();
        Self {
            probabilities,
            off_level: None,
            answer: None,
            direction: None,
            raw: None,
            served: None,
            further: Vec::new(),
            attributes: Vec::new(),
        }
    }

    /// Adds the share of the model's probability that is on no level.
    ///
    /// # Errors
    /// Fails if it is not in 0..=1.
    pub fn with_off_level(mut self, off_level: f64) -> Result<Self, LevelsError> {
        if !(0.0..=1.0).contains(&off_level) {
            return Err(LevelsError::OffLevel { value: off_level });
        }
        self.off_level = Some(off_level);
        Ok(self)
    }

    /// Adds a generated answer. Its level then replaces the most probable one.
    #[must_use]
    pub fn with_answer(mut self, answer: GeneratedAnswer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Adds the direction, a second rating: the position of the scorer's next words between bad and
    /// good quality.
    ///
    /// # Errors
    /// Fails if it is not finite.
    pub fn with_direction(mut self, direction: f64) -> Result<Self, LevelsError> {
        if !direction.is_finite() {
            return Err(LevelsError::Direction { value: direction });
        }
        self.direction = Some(direction);
        Ok(self)
    }

    /// Adds the scorer's own score, from which the levels were derived.
    #[must_use]
    pub fn with_raw(mut self, raw: RawScore) -> Self {
        self.raw = Some(raw);
        self
    }

    /// Adds the scoring server that reported the distribution.
    ///
    /// # Errors
    /// Fails if the share that it did not report is not in 0..=1.
    pub fn with_served(mut self, served: Served) -> Result<Self, LevelsError> {
        if let Some(value) = served.unreported
            && !(0.0..=1.0).contains(&value)
        {
            return Err(LevelsError::Unreported { value });
        }
        self.served = Some(served);
        Ok(self)
    }

    /// Adds the answers to other questions about the same crop.
    #[must_use]
    pub fn with_further(mut self, further: Vec<FurtherRating>) -> Self {
        self.further = further;
        self
    }

    /// Adds properties of the crop.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Vec<Attribute>) -> Self {
        self.attributes = attributes;
        self
    }

    /// Returns the answers to other questions about the same crop.
    pub fn further(&self) -> &[FurtherRating] {
        &self.further
    }

    /// Returns the properties of the crop.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Returns the scoring server that reported the distribution, if one did.
    pub fn served(&self) -> Option<&Served> {
        self.served.as_ref()
    }

    /// Returns the scorer's own score, if the levels were derived from one.
    pub fn raw(&self) -> Option<RawScore> {
        self.raw
    }

    /// Returns the share of the model's probability that is on no level, in 0..=1, if the scorer
    /// knows it. Near 1, the model does not answer the question.
    pub fn off_level(&self) -> Option<f64> {
        self.off_level
    }

    /// Returns the generated answer, if the level is that of an answer.
    pub fn answer(&self) -> Option<&GeneratedAnswer> {
        self.answer.as_ref()
    }

    /// Returns the direction, if the scorer computed it. Larger is better; the scale is the
    /// model's.
    pub fn direction(&self) -> Option<f64> {
        self.direction
    }

    /// Returns the probability of each level, from level 1 to level K.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// Returns the number of levels, K.
    pub fn levels(&self) -> u8 {
        // The constructors allow at most 9.
        u8::try_from(self.probabilities.len()).unwrap_or(u8::MAX)
    }

    /// Returns the level of the generated answer, in 0..=9. Without one, returns the most probable
    /// level, in 1..=K; the lowest of equally probable ones.
    pub fn level(&self) -> u8 {
        if let Some(answer) = &self.answer {
            return answer.level();
        }
        let mut best = (1, 0.0);
        for (level, &probability) in (1_u8..).zip(&self.probabilities) {
            if probability > best.1 {
                best = (level, probability);
            }
        }
        best.0
    }

    /// Returns the expected level, in 1..=K.
    pub fn expected(&self) -> f64 {
        let numbered = self.probabilities.iter().zip(1_u8..);
        let mean: f64 = numbered.map(|(probability, level)| probability * f64::from(level)).sum();
        mean.clamp(1.0, f64::from(self.levels()))
    }

    /// Returns the probability of the level: at least 1/K for the most probable one, and 0 for an
    /// answer that is none of the levels.
    pub fn confidence(&self) -> f64 {
        let index = usize::from(self.level()).checked_sub(1);
        index.and_then(|index| self.probabilities.get(index)).copied().unwrap_or(0.0)
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
    fn the_level_is_the_lowest_of_the_most_probable_ones() {
        let level = |p: &[f64]| LevelDistribution::new(p.to_vec()).unwrap().level();
        assert_eq!(level(&[0.1, 0.2, 0.7]), 3);
        assert_eq!(level(&[0.4, 0.2, 0.4]), 1);
        assert_eq!(level(&[0.5, 0.5]), 1);
    }

    #[test]
    fn expectation_and_confidence_follow_their_formulas() {
        let rating = LevelDistribution::new(vec![0.25, 0.25, 0.5]).unwrap();
        assert!((rating.expected() - 2.25).abs() < 1e-15);
        assert!((rating.confidence() - 0.5).abs() < 1e-15);
    }

    #[test]
    fn a_certain_rating_expects_its_level() {
        let certain = LevelDistribution::new(vec![0.0, 1.0, 0.0]).unwrap();
        assert_eq!((certain.expected(), certain.confidence()), (2.0, 1.0));
    }

    #[test]
    fn numbers_that_are_not_a_distribution_are_refused() {
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
    fn a_logit_that_is_not_finite_is_refused_with_its_level() {
        let error = LevelDistribution::from_logits(&[0.0, 1.0, f64::INFINITY]).unwrap_err();
        assert_eq!(error, LevelsError::Value { level: 3, value: f64::INFINITY });
    }

    #[test]
    fn no_probability_is_a_negative_zero() {
        let rating = LevelDistribution::new(vec![-0.0, 1.0]).unwrap();
        assert!(rating.probabilities().iter().all(|share| share.is_sign_positive()));
    }

    #[test]
    fn a_direction_is_kept_and_must_be_finite() {
        let rating = LevelDistribution::new(vec![0.5, 0.5]).unwrap();
        assert_eq!(rating.direction(), None);
        assert_eq!(rating.clone().with_direction(-0.25).unwrap().direction(), Some(-0.25));
        for value in [f64::NAN, f64::INFINITY] {
            assert!(rating.clone().with_direction(value).is_err(), "{value}");
        }
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let rating = LevelDistribution::from_logits(&[1e300, -1e300, 1e300]).unwrap();
        assert_eq!(rating.probabilities(), [0.5, 0.0, 0.5]);
    }

    proptest! {
        #[test]
        fn every_statistic_is_within_its_range(
            logits in prop::collection::vec(-50.0..50.0_f64, 2..=9),
        ) {
            let rating = LevelDistribution::from_logits(&logits).unwrap();
            let k = f64::from(rating.levels());
            prop_assert!((rating.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!((1.0..=k).contains(&rating.expected()));
            prop_assert!((1..=rating.levels()).contains(&rating.level()));
            prop_assert!(rating.confidence() >= 1.0 / k - 1e-12 && rating.confidence() <= 1.0);
            let again = LevelDistribution::new(rating.probabilities().to_vec()).unwrap();
            prop_assert_eq!(again.level(), rating.level());
        }
    }
}
