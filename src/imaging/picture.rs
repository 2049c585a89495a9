//! The decoded picture: upright sRGB pixels and what is known of the bytes they came from.

use std::fmt;
use std::mem;
use std::sync::Arc;

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::buffers;
use super::header::ImageFormat;

/// One image, decoded: 8-bit sRGB, upright, opaque. Cloning it shares the pixels.
#[derive(Clone)]
pub struct Picture {
    rgb: Arc<RgbImage>,
    format: ImageFormat,
    bytes_len: u64,
    sha256: [u8; 32],
    /// Limit on the buffers that are kept, which the pixels join with the last clone.
    spare_bytes_max: u64,
}

impl Picture {
    /// A picture from pixels that an embedder or a test already holds.
    ///
    /// Its format is [`ImageFormat::Rgb`], and the length and the digest are those of the pixels.
    pub fn from_rgb(rgb: RgbImage) -> Self {
        let sha256 = Sha256::digest(rgb.as_raw()).into();
        let bytes_len = rgb.as_raw().len() as u64;
        let format = ImageFormat::Rgb;
        Self { rgb: Arc::new(rgb), format, bytes_len, sha256, spare_bytes_max: 0 }
    }

    /// A picture decoded from `bytes`, of which it keeps length and digest.
    pub(super) fn decoded(
        rgb: RgbImage,
        format: ImageFormat,
        bytes: &[u8],
        spare_bytes_max: u64,
    ) -> Self {
        let sha256 = Sha256::digest(bytes).into();
        let bytes_len = bytes.len() as u64;
        Self { rgb: Arc::new(rgb), format, bytes_len, sha256, spare_bytes_max }
    }

    /// Width in pixels, after orientation; at least 1.
    pub fn width(&self) -> u32 {
        self.rgb.width()
    }

    /// Height in pixels, after orientation; at least 1.
    pub fn height(&self) -> u32 {
        self.rgb.height()
    }

    /// The pixels, shared: 8-bit sRGB, upright.
    pub fn pixels(&self) -> &Arc<RgbImage> {
        &self.rgb
    }

    /// The format that the bytes turned out to have, whatever their name said.
    pub fn format(&self) -> ImageFormat {
        self.format
    }

    /// Number of bytes before decoding.
    pub fn bytes_len(&self) -> u64 {
        self.bytes_len
    }

    /// SHA-256 of the bytes before decoding.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        // A clone or a crop of the whole that lives on keeps the pixels.
        if let Some(rgb) = Arc::into_inner(mem::take(&mut self.rgb)) {
            buffers::keep(rgb.into_raw(), self.spare_bytes_max);
        }
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Picture")
            .field("width", &self.width())
            .field("height", &self.height())
            .field("format", &self.format)
            .field("bytes_len", &self.bytes_len)
            .finish_non_exhaustive()
    }
}
