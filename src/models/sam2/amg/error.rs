//! Errors of the mask generator.

use thiserror::Error;

use crate::method::MaskError;

/// Masks cannot be generated.
#[derive(Debug, Error)]
pub enum AmgError {
    /// The generator cannot run with these parameters.
    #[error("{0}")]
    Settings(String),
    /// The network computed NaN or infinity.
    #[error("the network's {output} are not numbers")]
    NotNumbers {
        /// The outputs, in the plural.
        output: &'static str,
    },
    /// An image is too large for a mask.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
