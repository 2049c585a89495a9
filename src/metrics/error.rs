//! Reasons for which an image has no value, and the errors of parameter files.

use thiserror::Error;

/// The reason why a metric is not defined for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Undefined {
    /// The image is too small.
    #[error("the image has {width}×{height} px, the metric needs {side_min}×{side_min}")]
    TooSmall {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Smallest width and height in pixels.
        side_min: u32,
    },
    /// NIQE needs two whole blocks for a covariance.
    #[error("the image has {blocks} whole blocks of 96×96 px, the metric needs 2")]
    TooFewBlocks {
        /// Whole blocks.
        blocks: usize,
    },
    /// NIQE needs two blocks with all features.
    #[error("{complete} blocks have structure in every direction, the metric needs 2")]
    TooFewCompleteBlocks {
        /// Blocks with all features.
        complete: usize,
    },
    /// One side of a distribution is empty, as in a flat image.
    #[error("a distribution of local contrast has an empty side, as in a flat image")]
    EmptySide,
    /// BIQI's measure of JPEG blocks is not finite, as in a flat or a smooth image.
    #[error("the measure of JPEG blocks is not finite, as in a flat or a smooth image")]
    NoBlockiness,
    /// The parameters lead to no finite value.
    #[error("the value is not finite with these parameters")]
    NotFinite,
}

/// Parameter files that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParametersError {
    /// A file was not given.
    #[error("the parameter file {file} is missing")]
    Missing {
        /// Name of the file.
        file: &'static str,
    },
    /// A file is too large, damaged, or of another kind.
    #[error("{file}: {reason}")]
    Invalid {
        /// Name of the file.
        file: &'static str,
        /// The first fault.
        reason: String,
    },
}
