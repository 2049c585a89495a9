//! The errors of agreement measures.

use thiserror::Error;

/// Lists for which a measure is not defined.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AgreementError {
    /// The number of scores is not the number of opinions.
    #[error("{scores} scores and {opinions} opinions; give one opinion for each score")]
    Lengths {
        /// Number of scores.
        scores: usize,
        /// Number of opinions.
        opinions: usize,
    },
    /// There are too few pairs.
    #[error("{found} pairs are too few, {needed} are needed")]
    TooFew {
        /// Number of pairs.
        found: usize,
        /// Minimum number of pairs.
        needed: usize,
    },
    /// A value is not finite.
    #[error("the value of pair {index} is not finite")]
    NotFinite {
        /// Index of the pair, from 0.
        index: usize,
    },
    /// All values are equal, so a correlation with them is not defined.
    #[error("all {what} are equal, a correlation is not defined")]
    Constant {
        /// `scores` or `opinions`.
        what: &'static str,
    },
}
