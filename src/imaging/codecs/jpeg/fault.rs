//! The ways in which entropy-coded data turns out to be damaged.

use crate::imaging::codecs::jpeg::markers::FORMAT;
use crate::imaging::error::DecodeError;

/// Damage in entropy-coded data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The data ends before the last block.
    EndsEarly,
    /// Bits that are no code of the table, or a code that no encoder writes for 8-bit samples.
    BadCode,
    /// A block with more than 64 coefficients.
    TooManyCoefficients,
    /// A coefficient that no block of 8-bit samples has.
    OutOfRange,
    /// A restart marker that is missing, repeated or out of order.
    Restart,
    /// Data of further blocks behind the last one: as many were lost.
    Surplus,
}

impl Fault {
    /// Returns the error. A file that ends, or an end marker, is a cut; any other end is damage.
    pub(crate) fn into_error(self, ends_at_end: bool) -> DecodeError {
        let detail = match self {
            Self::EndsEarly if ends_at_end => {
                return DecodeError::truncated(FORMAT, "its image data ends before its last block");
            }
            Self::EndsEarly => "a marker cuts its image data before the last block",
            Self::BadCode => "its image data has a code that its tables do not explain",
            Self::TooManyCoefficients => "a block has more than 64 coefficients",
            Self::OutOfRange => "a block has values that no picture has",
            Self::Restart => "a restart marker is missing or out of order",
            Self::Surplus => "its image data has more blocks than the picture",
        };
        DecodeError::corrupt(FORMAT, detail)
    }
}
