//! From the pairs' probabilities to a score and to K levels.

use crate::method::{LevelDistribution, LevelsError};

/// Returns the score in 0..=1: the mean of the probabilities of each pair's better prompt.
pub fn score(probabilities: &[f64]) -> f64 {
    let mean = probabilities.iter().sum::<f64>() / probabilities.len() as f64;
    mean.clamp(0.0, 1.0)
}

/// Spreads the probabilities of the pairs' better prompts over the levels 1..=`k`. A pair is at
/// `1 + (k − 1) · p`; between two levels, it is shared by distance. The pairs count alike, so the
/// expected level is `1 + (k − 1) · score`.
///
/// # Errors
/// Fails if `k` is not in 2..=9, without a pair, or on a value that is not in 0..=1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place is between 0 and 8"
)]
pub fn spread(probabilities: &[f64], k: u8) -> Result<LevelDistribution, LevelsError> {
    let mut levels = vec![0.0; usize::from(k)];
    let share = 1.0 / probabilities.len() as f64;
    for (&probability, pair) in probabilities.iter().zip(1..) {
        if !(0.0..=1.0).contains(&probability) {
            return Err(LevelsError::Value { level: pair, value: probability });
        }
        let place = f64::from(k.saturating_sub(1)) * probability;
        let below = place.floor();
        for (level, part) in [(below, 1.0 - (place - below)), (below + 1.0, place - below)] {
            if let Some(sum) = levels.get_mut(level as usize) {
                *sum += share * part;
            }
        }
    }
    LevelDistribution::new(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_level_is_the_score_on_the_scale_of_the_standard() {
        for probabilities in [vec![0.0], vec![1.0], vec![0.3, 0.99, 0.5], vec![0.25; 5]] {
            for k in 2..=9 {
                let spread = spread(&probabilities, k).unwrap();
                let expected = 1.0 + f64::from(k - 1) * score(&probabilities);
                assert!((spread.expected() - expected).abs() < 1e-12, "k = {k}");
            }
        }
        let half = spread(&[0.625], 5).unwrap();
        assert_eq!(half.probabilities(), [0.0, 0.0, 0.5, 0.5, 0.0]);
    }

    #[test]
    fn numbers_that_are_no_probabilities_are_refused() {
        for bad in [vec![], vec![f64::NAN], vec![0.5, 1.5], vec![-0.1]] {
            assert!(spread(&bad, 7).is_err(), "{bad:?}");
        }
        assert!(spread(&[0.5], 1).is_err());
        assert!(spread(&[0.5], 10).is_err());
    }
}
