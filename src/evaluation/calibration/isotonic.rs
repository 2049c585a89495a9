//! Isotonic regression: the best ascending curve (pool adjacent violators, Ayer et al. 1955).

use crate::evaluation::error::EvaluationError;
use crate::method::agreement::AgreementError;

/// A run of scores with one opinion.
struct Block {
    first: f64,
    last: f64,
    sum: f64,
    count: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.sum / self.count
    }
}

/// Fits the ascending curve with the smallest sum of squares and returns its corners
/// `(score, opinion)`, at most `corners_max` (at least 2), in ascending order.
///
/// # Errors
/// Fails without two different scores.
pub fn isotonic(
    scores: &[f64],
    opinions: &[f64],
    corners_max: usize,
) -> Result<Vec<(f64, f64)>, EvaluationError> {
    let mut pairs: Vec<(f64, f64)> = scores.iter().copied().zip(opinions.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut blocks: Vec<Block> = Vec::new();
    for tie in pairs.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let sum = tie.iter().map(|pair| pair.1).sum();
        let mut block = Block { first: tie[0].0, last: tie[0].0, sum, count: tie.len() as f64 };
        while let Some(before) = blocks.pop_if(|before| before.mean() >= block.mean()) {
            block.first = before.first;
            block.sum += before.sum;
            block.count += before.count;
        }
        blocks.push(block);
    }
    let ends = |block: &Block| [(block.first, block.mean()), (block.last, block.mean())];
    let mut corners: Vec<(f64, f64)> = blocks.iter().flat_map(ends).collect();
    corners.dedup();
    if corners.len() < 2 {
        return Err(AgreementError::Constant { what: "scores" }.into());
    }
    Ok(thin(corners, corners_max.max(2)))
}

/// Keeps the ends and evenly spaced corners between them.
fn thin(corners: Vec<(f64, f64)>, corners_max: usize) -> Vec<(f64, f64)> {
    if corners.len() <= corners_max {
        return corners;
    }
    let last = corners.len() - 1;
    (0..corners_max).map(|index| corners[index * last / (corners_max - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn violators_are_pooled_and_ties_averaged() {
        let curve = isotonic(&[1.0, 2.0, 3.0, 3.0, 4.0], &[1.0, 5.0, 2.0, 4.0, 6.0], 100).unwrap();
        // The mean at 3 is 3, below the 5 at 2: both scores share (5 + 2 + 4) / 3.
        let pooled = 11.0 / 3.0;
        assert_eq!(curve, [(1.0, 1.0), (2.0, pooled), (3.0, pooled), (4.0, 6.0)]);
        assert!(isotonic(&[2.0, 2.0], &[1.0, 3.0], 100).is_err());
    }

    proptest! {
        #[test]
        fn the_curve_ascends_within_the_limit_of_corners(
            pairs in prop::collection::vec((-9.0..9.0_f64, -9.0..9.0_f64), 2..60)
        ) {
            let (scores, opinions): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let curve = isotonic(&scores, &opinions, 8)?;
            prop_assert!(curve.len() <= 8);
            let ascends = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
            prop_assert!(curve.windows(2).all(ascends));
        }
    }
}
