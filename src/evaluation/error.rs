//! Errors in labels and scores.

use thiserror::Error;

use crate::method::agreement::AgreementError;

/// Data from which no agreement can be computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvaluationError {
    /// A file cannot be read as its format.
    #[error("{file}: {problem}")]
    File {
        /// Name of the file.
        file: String,
        /// The problem and its place.
        problem: String,
    },
    /// A table lacks a column.
    #[error("{file} has no column {wanted}; its columns are: {found}")]
    Column {
        /// Name of the file.
        file: String,
        /// The accepted names.
        wanted: String,
        /// The names in the file.
        found: String,
    },
    /// No label has a score.
    #[error("none of {labels} labels has one of the {scores} scores; {hint}")]
    NoPairs {
        /// Number of labels.
        labels: usize,
        /// Number of scores.
        scores: usize,
        /// A name of each list, to compare.
        hint: String,
    },
    /// Two files of events have no reference in common.
    #[error(
        "no reference has an event in both files; the first id of the first file is {first}, of the \
         second {second}"
    )]
    NoCommonImages {
        /// An id of the first file.
        first: String,
        /// An id of the second file.
        second: String,
    },
    /// Too few pairs, or values that do not vary.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
}
