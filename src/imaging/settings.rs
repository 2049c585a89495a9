//! The `imaging` section of the configuration.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::imaging::error::DecodeError;
use crate::imaging::header::Header;

/// Limits on images, checked before anything is decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Maximum number of pixels of an image (width × height). A larger image is refused with
    /// `decode.too_large`. Decoding takes 3 to 16 bytes of memory per pixel. For a TIFF file with
    /// more than 8 bytes of samples per pixel, mostly floating point, the limit is lower in
    /// proportion.
    pub pixels_max: u64,
    /// Maximum length of a side of an image, in pixels. A larger image is refused with
    /// `decode.too_large`.
    pub side_max_px: u32,
    /// Memory of finished pictures to keep for later ones. Without it, memory allocation is a third
    /// of the time to decode a large photo. 0 keeps none.
    pub spare_bytes_max: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pixels_max: 100_000_000, side_max_px: 65_535, spare_bytes_max: ByteSize::mib(256) }
    }
}

impl Settings {
    pub(crate) fn check_size(&self, header: Header) -> Result<(), DecodeError> {
        let Header { format, width, height } = header;
        if width == 0 || height == 0 {
            let detail = format!("it claims a size of {width}×{height} px");
            return Err(DecodeError::corrupt(format, &detail));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.pixels_max || width.max(height) > self.side_max_px {
            return Err(DecodeError::TooLarge {
                width,
                height,
                pixels_max: self.pixels_max,
                side_max_px: self.side_max_px,
            });
        }
        Ok(())
    }
}
