//! The five words of quality, their published score, and their place among K levels.

use crate::method::{LevelDistribution, LevelsError};

/// The words, worst first.
pub const WORDS: [&str; 5] = ["bad", "poor", "fair", "good", "excellent"];

/// Name of the mapping from words to levels, for events.
pub const MAPPING: &str = "five-words-linear";

/// Returns the published score, in 0..=1, of the words' probabilities, worst first: bad counts 0,
/// poor ¼, fair ½, good ¾ and excellent 1.
pub fn score(probabilities: &[f64; 5]) -> f64 {
    let weighted = probabilities.iter().zip(0_u8..).map(|(p, word)| p * f64::from(word) / 4.0);
    weighted.sum::<f64>().clamp(0.0, 1.0)
}

/// Spreads the words' probabilities, worst first, over the levels 1..=`k`. A word is at
/// `1 + (k − 1) · score`; between two levels, it is shared by distance. So the expected level is
/// `1 + (k − 1) · score`, too, and with five levels each word is one.
///
/// # Errors
/// Fails if `k` is not in 2..=9, or the probabilities are no distribution.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place is between 0 and 8"
)]
pub fn spread(probabilities: &[f64; 5], k: u8) -> Result<LevelDistribution, LevelsError> {
    let last = usize::from(k).saturating_sub(1);
    let mut levels = vec![0.0; usize::from(k)];
    for (probability, word) in probabilities.iter().zip(0_u8..) {
        let place = f64::from(word) / 4.0 * last as f64;
        let below = place.floor();
        let share = place - below;
        let below = below as usize;
        if let Some(level) = levels.get_mut(below) {
            *level += probability * (1.0 - share);
        }
        if share > 0.0 {
            levels[below + 1] += probability * share;
        }
    }
    LevelDistribution::new(levels)
}

/// Returns the words' probabilities, worst first, from their logits, also worst first.
///
/// # Errors
/// Fails on a logit that is not finite.
pub fn probabilities(logits: &[f64; 5]) -> Result<[f64; 5], LevelsError> {
    let distribution = LevelDistribution::from_logits(logits)?;
    let mut probabilities = [0.0; 5];
    probabilities.copy_from_slice(distribution.probabilities());
    Ok(probabilities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_level_is_the_published_score_on_the_scale_of_the_standard() {
        for probabilities in
            [[0.1, 0.2, 0.3, 0.15, 0.25], [1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
        {
            for k in 2..=9 {
                let spread = spread(&probabilities, k).unwrap();
                let expected = 1.0 + f64::from(k - 1) * score(&probabilities);
                assert!((spread.expected() - expected).abs() < 1e-12, "k = {k}");
            }
            assert_eq!(spread(&probabilities, 5).unwrap().probabilities(), probabilities);
        }
        assert!(spread(&[0.2; 5], 1).is_err());
        assert!(spread(&[0.2; 5], 10).is_err());
    }

    #[test]
    fn the_score_weighs_the_words_in_quarters() {
        assert!((score(&[0.1, 0.2, 0.3, 0.15, 0.25]) - 0.5625).abs() < 1e-12);
        let equal = probabilities(&[3.0; 5]).unwrap();
        assert!((score(&equal) - 0.5).abs() < 1e-12);
        assert!(probabilities(&[0.0, f64::NAN, 0.0, 0.0, 0.0]).is_err());
    }
}
