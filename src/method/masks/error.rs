//! The errors of masks.

use thiserror::Error;

use crate::method::masks::limits::{PIXELS_MAX, RUNS_MAX};

/// Runs, a frame, a bitmap or a text that is not a valid mask.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MaskError {
    /// A side of the frame is zero.
    #[error("a mask of {width}×{height} px has no pixels; both sides must be at least 1")]
    EmptyFrame {
        /// Width of the frame in pixels.
        width: u32,
        /// Height of the frame in pixels.
        height: u32,
    },
    /// The frame has more than [`PIXELS_MAX`] pixels.
    #[error("a mask of {width}×{height} px is too large, the limit is {PIXELS_MAX} px")]
    FrameTooLarge {
        /// Width of the frame in pixels.
        width: u32,
        /// Height of the frame in pixels.
        height: u32,
    },
    /// The mask has more than [`RUNS_MAX`] runs.
    #[error("the mask has more than {RUNS_MAX} runs")]
    TooManyRuns,
    /// The runs do not fill the frame exactly.
    #[error("the runs cover {found} px, the frame has {expected} px")]
    Sum {
        /// Pixels that the runs cover.
        found: u64,
        /// Pixels of the frame.
        expected: u64,
    },
    /// The bitmap and its frame differ in size.
    #[error("the bitmap has {found} values, the frame has {expected} px")]
    Bitmap {
        /// Number of values.
        found: usize,
        /// Pixels of the frame.
        expected: u64,
    },
    /// The masks of one operation have different frames.
    #[error("a mask of {found:?} px does not fit a frame of {expected:?} px (width, height)")]
    Frame {
        /// Width and height of the mask.
        found: (u32, u32),
        /// Width and height that it should have.
        expected: (u32, u32),
    },
    /// The compressed text violates the format.
    #[error("compressed runs are malformed at byte {offset}")]
    Text {
        /// Offset in the text, in bytes.
        offset: usize,
    },
    /// No pixel is set.
    #[error("the mask has no pixel set")]
    NoPixel,
}
