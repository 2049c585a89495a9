//! Decoded samples, as every decoder returns them.

use image::metadata::Orientation;

/// Decoded samples: rows from the top, pixels interleaved, no padding.
pub(crate) struct Raster {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) layout: Layout,
    pub(crate) samples: Samples,
    /// The embedded colour profile, not yet validated.
    pub(crate) icc: Option<Vec<u8>>,
    /// The rotation or flip that makes the pixels upright.
    pub(crate) orientation: Orientation,
}

/// The meaning of a pixel's samples. Alpha is straight; an ink of 255 is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
    Cmyk,
}

/// Samples of 8 or 16 bits.
pub(crate) enum Samples {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}
