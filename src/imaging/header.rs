//! Format and stored size of an image file.

use crate::imaging::format::ImageFormat;

/// Format and size of an image file, before orientation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Format, detected from the content.
    pub format: ImageFormat,
    /// Stored width in pixels.
    pub width: u32,
    /// Stored height in pixels.
    pub height: u32,
}

impl Header {
    /// Returns the number of pixels to charge to the memory budget while the image is decoded.
    ///
    /// A TIFF pixel counts three times: its samples may take 48 bytes, those of other formats 16.
    pub fn decoding_cost(&self) -> u64 {
        let weight = if self.format == ImageFormat::Tiff { 3 } else { 1 };
        weight * u64::from(self.width) * u64::from(self.height)
    }
}
