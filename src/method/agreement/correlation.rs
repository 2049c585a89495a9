//! Correlations and error between scores and opinions.

use std::cmp::Ordering;

use crate::method::agreement::error::AgreementError;
use crate::method::agreement::logistic::Logistic;
use crate::method::agreement::pairs::{check, range};

/// Computes Spearman's rank correlation. Ties share their average rank.
///
/// # Errors
/// Fails on lists of different length, fewer than 2 pairs, or values that are not finite or all
/// equal.
pub fn srcc(scores: &[f64], opinions: &[f64]) -> Result<f64, AgreementError> {
    check(scores, opinions, 2)?;
    pearson(&average_ranks(scores), &average_ranks(opinions))
}

/// Computes Pearson's linear correlation of the raw scores.
///
/// # Errors
/// Fails on lists of different length, fewer than 2 pairs, or values that are not finite or all
/// equal.
pub fn plcc(scores: &[f64], opinions: &[f64]) -> Result<f64, AgreementError> {
    check(scores, opinions, 2)?;
    pearson(scores, opinions)
}

/// Computes Pearson's linear correlation after the four-parameter logistic of [`Logistic::fit`].
///
/// # Errors
/// Fails on lists of different length, fewer than 5 pairs, or values that are not finite or all
/// equal.
pub fn plcc_logistic(scores: &[f64], opinions: &[f64]) -> Result<f64, AgreementError> {
    let curve = Logistic::fit(scores, opinions)?;
    let mapped: Vec<f64> = scores.iter().map(|&score| curve.map(score)).collect();
    let (low, high) = range(&mapped);
    // A flat curve explains none of the variation of the opinions.
    if low < high { pearson(&mapped, opinions) } else { Ok(0.0) }
}

/// Computes Kendall's rank correlation with the correction for ties, tau-b.
///
/// # Errors
/// Fails on lists of different length, fewer than 2 pairs, or values that are not finite or all
/// equal.
pub fn krcc(scores: &[f64], opinions: &[f64]) -> Result<f64, AgreementError> {
    let counts = PairCounts::of(scores, opinions)?;
    let untied_scores = ((counts.all - counts.tied_scores) as f64).sqrt();
    let untied_opinions = ((counts.all - counts.tied_opinions) as f64).sqrt();
    let concordant_less_discordant = counts.concordant as f64 - counts.discordant as f64;
    Ok((concordant_less_discordant / (untied_scores * untied_opinions)).clamp(-1.0, 1.0))
}

/// Computes the share of the pairs of images with different opinions that the scores order in the
/// same way. Equal scores count as half.
///
/// # Errors
/// Fails on lists of different length, fewer than 2 pairs, or values that are not finite or all
/// equal.
pub fn pairwise_accuracy(scores: &[f64], opinions: &[f64]) -> Result<f64, AgreementError> {
    let counts = PairCounts::of(scores, opinions)?;
    let different = counts.all - counts.tied_opinions;
    let undecided = different - counts.concordant - counts.discordant;
    Ok((counts.concordant as f64 + undecided as f64 / 2.0) / different as f64)
}

/// Numbers of pairs of images, by the order of their scores and opinions.
struct PairCounts {
    all: u64,
    tied_scores: u64,
    tied_opinions: u64,
    /// Pairs that scores and opinions order in the same way, without ties.
    concordant: u64,
    /// Pairs that they order in opposite ways, without ties.
    discordant: u64,
}

impl PairCounts {
    fn of(scores: &[f64], opinions: &[f64]) -> Result<Self, AgreementError> {
        check(scores, opinions, 2)?;
        let mut pairs: Vec<(f64, f64)> =
            scores.iter().copied().zip(opinions.iter().copied()).collect();
        pairs.sort_by(|a, b| order(a.0, b.0).then(order(a.1, b.1)));

        let all = pairs_of(pairs.len());
        let tied_scores = tied_pairs(&pairs, |a, b| order(a.0, b.0).is_eq());
        let tied_both = tied_pairs(&pairs, |a, b| a == b);
        let mut by_opinion: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        // After sorting by score and then by opinion, the number of exchanges that sort the
        // opinions is the number of discordant pairs (Knight 1966).
        let discordant = sort_counting_exchanges(&mut by_opinion);
        let tied_opinions = tied_pairs(&by_opinion, |a, b| order(*a, *b).is_eq());

        if tied_scores == all {
            return Err(AgreementError::Constant { what: "scores" });
        }
        if tied_opinions == all {
            return Err(AgreementError::Constant { what: "opinions" });
        }
        let tied = tied_scores + tied_opinions - tied_both;
        let concordant = all - tied - discordant;
        Ok(Self { all, tied_scores, tied_opinions, concordant, discordant })
    }
}

/// Computes the root of the mean squared difference. Both lists must use the same scale.
///
/// # Errors
/// Fails on lists of different length, without pairs, or with values that are not finite.
pub fn rmse(scores: &[f64], opinions: &[f64]) -> Result<f64, AgreementError> {
    check(scores, opinions, 1)?;
    let squares: f64 = scores.iter().zip(opinions).map(|(a, b)| (a - b) * (a - b)).sum();
    Ok((squares / scores.len() as f64).sqrt())
}

fn pearson(scores: &[f64], opinions: &[f64]) -> Result<f64, AgreementError> {
    let from_scores = deviations(scores).ok_or(AgreementError::Constant { what: "scores" })?;
    let from_opinions =
        deviations(opinions).ok_or(AgreementError::Constant { what: "opinions" })?;
    let product: f64 = from_scores.iter().zip(&from_opinions).map(|(a, b)| a * b).sum();
    Ok(product.clamp(-1.0, 1.0))
}

/// Returns the deviations from the mean, scaled to length 1, or `None` if all values are equal.
fn deviations(values: &[f64]) -> Option<Vec<f64>> {
    let (low, high) = range(values);
    if low >= high {
        return None;
    }
    // Scaled by the range first, so that neither huge nor tiny values overflow or underflow.
    let scaled: Vec<f64> =
        values.iter().map(|value| (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)).collect();
    let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
    let centred: Vec<f64> = scaled.iter().map(|value| value - mean).collect();
    let length = centred.iter().map(|value| value * value).sum::<f64>().sqrt();
    Some(centred.into_iter().map(|value| value / length).collect())
}

/// Returns the rank of each value, from 1. Ties share the average of their ranks.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut by_value: Vec<usize> = (0..values.len()).collect();
    by_value.sort_by(|&a, &b| order(values[a], values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tie in by_value.chunk_by(|&a, &b| order(values[a], values[b]).is_eq()) {
        let rank = before as f64 + f64::midpoint(1.0, tie.len() as f64);
        for &index in tie {
            ranks[index] = rank;
        }
        before += tie.len();
    }
    ranks
}

/// Compares finite numbers. `+ 0.0` makes both zeros equal, which `total_cmp` distinguishes.
fn order(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

fn pairs_of(count: usize) -> u64 {
    let count = count as u64;
    count * count.saturating_sub(1) / 2
}

/// Returns the number of tied pairs in a list whose ties are adjacent.
fn tied_pairs<T>(sorted: &[T], is_tie: impl FnMut(&T, &T) -> bool) -> u64 {
    sorted.chunk_by(is_tie).map(|tie| pairs_of(tie.len())).sum()
}

/// Sorts by merging and returns the number of pairs that were in the wrong order.
fn sort_counting_exchanges(values: &mut [f64]) -> u64 {
    let middle = values.len() / 2;
    if middle == 0 {
        return 0;
    }
    let (left, right) = values.split_at_mut(middle);
    let mut exchanges = sort_counting_exchanges(left) + sort_counting_exchanges(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if right[j] < left[i] {
            exchanges += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        } else {
            merged.push(left[i]);
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    values.copy_from_slice(&merged);
    exchanges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_share_the_average_of_their_ranks() {
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
    }

    #[test]
    fn invalid_lists_are_refused_by_every_measure() {
        let measures = [srcc, plcc, krcc, plcc_logistic, pairwise_accuracy];
        for measure in measures {
            assert!(matches!(measure(&[1.0], &[]), Err(AgreementError::Lengths { .. })));
            assert!(matches!(measure(&[1.0], &[1.0]), Err(AgreementError::TooFew { .. })));
            let (rising, flat) = ([1.0, 2.0, 3.0, 4.0, 5.0], [0.1; 5]);
            let scores = AgreementError::Constant { what: "scores" };
            assert_eq!(measure(&flat, &rising), Err(scores));
            let opinions = AgreementError::Constant { what: "opinions" };
            assert_eq!(measure(&rising, &flat), Err(opinions));
            let bad = [1.0, f64::NAN, 3.0, 4.0, 5.0];
            assert_eq!(measure(&rising, &bad), Err(AgreementError::NotFinite { index: 1 }));
        }
        assert!(rmse(&[], &[]).is_err());
    }

    #[test]
    fn zeros_of_both_signs_are_ties() {
        assert_eq!(
            krcc(&[0.0, -0.0, 1.0], &[2.0, 1.0, 3.0]),
            krcc(&[0.0, 0.0, 1.0], &[2.0, 1.0, 3.0])
        );
    }

    #[test]
    fn equal_scores_order_half_of_their_pairs() {
        // Of the 5 pairs with different opinions, 3 are ordered rightly, 1 wrongly, 1 not at all.
        let accuracy = pairwise_accuracy(&[1.0, 2.0, 2.0, 1.5], &[1.0, 2.0, 3.0, 3.0]).unwrap();
        assert!((accuracy - 3.5 / 5.0).abs() < 1e-15, "{accuracy}");
    }

    /// Computes Kendall's definition, pair by pair.
    fn krcc_by_pairs(scores: &[f64], opinions: &[f64]) -> f64 {
        let (mut balance, mut untied_scores, mut untied_opinions) = (0.0, 0.0, 0.0);
        for i in 0..scores.len() {
            for j in 0..i {
                let sign = |a: f64, b: f64| f64::from(i8::from(a > b) - i8::from(a < b));
                let (x, y) = (sign(scores[i], scores[j]), sign(opinions[i], opinions[j]));
                balance += x * y;
                untied_scores += x * x;
                untied_opinions += y * y;
            }
        }
        balance / f64::sqrt(untied_scores * untied_opinions)
    }

    proptest! {
        #[test]
        fn the_fast_tau_equals_the_definition(
            pairs in prop::collection::vec((0_u8..6, 0_u8..6), 2..40)
        ) {
            let scores: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0)).collect();
            let opinions: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1)).collect();
            let by_pairs = krcc_by_pairs(&scores, &opinions);
            match krcc(&scores, &opinions) {
                Ok(tau) => prop_assert!((tau - by_pairs).abs() < 1e-12),
                Err(_) => prop_assert!(by_pairs.is_nan()),
            }
        }

        #[test]
        fn rank_measures_ignore_a_monotone_map(
            pairs in prop::collection::vec((-9.0..9.0_f64, -9.0..9.0_f64), 3..40)
        ) {
            let (scores, opinions): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let mapped: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
            for measure in [srcc, krcc] {
                let plain = measure(&scores, &opinions)?;
                let transformed = measure(&mapped, &opinions)?;
                prop_assert!((plain - transformed).abs() < 1e-12);
            }
        }

        #[test]
        fn the_logistic_never_correlates_worse_than_a_line(
            pairs in prop::collection::vec((-9.0..9.0_f64, -9.0..9.0_f64), 5..40)
        ) {
            let (scores, opinions): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let line = plcc(&scores, &opinions)?.abs();
            prop_assert!(plcc_logistic(&scores, &opinions)? >= line - 1e-4);
        }
    }
}
