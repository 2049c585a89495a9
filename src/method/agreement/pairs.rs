//! Checks on lists of scores and opinions.

use crate::method::agreement::error::AgreementError;

/// Checks that both lists have the same length of at least `needed`, and only finite values.
pub(crate) fn check(scores: &[f64], opinions: &[f64], needed: usize) -> Result<(), AgreementError> {
    if scores.len() != opinions.len() {
        let (scores, opinions) = (scores.len(), opinions.len());
        return Err(AgreementError::Lengths { scores, opinions });
    }
    if scores.len() < needed {
        return Err(AgreementError::TooFew { found: scores.len(), needed });
    }
    let is_invalid = |(score, opinion): (&f64, &f64)| !score.is_finite() || !opinion.is_finite();
    match scores.iter().zip(opinions).position(is_invalid) {
        Some(index) => Err(AgreementError::NotFinite { index }),
        None => Ok(()),
    }
}

/// Returns the smallest and the largest value.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    values.iter().fold(start, |(low, high), &value| (low.min(value), high.max(value)))
}
