//! A decoded picture: its pixels, and format and digest of the source bytes.

use std::fmt;
use std::mem;
use std::sync::Arc;

use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::imaging::buffer_pool;
use crate::imaging::format::ImageFormat;
use crate::imaging::probe::ProbedFile;

/// A decoded image: 8-bit sRGB, upright, opaque, unless the settings of decoding say otherwise.
/// Clones share the pixels.
#[derive(Clone)]
pub struct Picture {
    rgb: Arc<RgbImage>,
    format: ImageFormat,
    bytes_len: u64,
    sha256: [u8; 32],
    /// Limit of the buffer pool, to which the last clone returns the pixels.
    spare_bytes_max: u64,
}

impl Picture {
    /// Creates a picture from pixels in memory, for embedders and tests.
    ///
    /// Its format is [`ImageFormat::Rgb`]; length and digest are those of the pixels.
    pub fn from_rgb(rgb: RgbImage) -> Self {
        let sha256 = Sha256::digest(rgb.as_raw()).into();
        let bytes_len = rgb.as_raw().len() as u64;
        let format = ImageFormat::Rgb;
        Self { rgb: Arc::new(rgb), format, bytes_len, sha256, spare_bytes_max: 0 }
    }

    /// Creates a picture decoded from a file, and keeps the file's format, length and digest.
    pub(crate) fn decoded(rgb: RgbImage, file: &ProbedFile<'_>, spare_bytes_max: u64) -> Self {
        let (format, sha256) = (file.header.format, file.sha256);
        let bytes_len = file.bytes.len() as u64;
        Self { rgb: Arc::new(rgb), format, bytes_len, sha256, spare_bytes_max }
    }

    /// Returns the width in pixels as decoded; at least 1.
    pub fn width(&self) -> u32 {
        self.rgb.width()
    }

    /// Returns the height in pixels as decoded; at least 1.
    pub fn height(&self) -> u32 {
        self.rgb.height()
    }

    /// Returns the shared pixels, 8 bits per sample.
    pub fn pixels(&self) -> &Arc<RgbImage> {
        &self.rgb
    }

    /// Returns the format of the source bytes, detected from their content.
    pub fn format(&self) -> ImageFormat {
        self.format
    }

    /// Returns the number of pixels.
    pub fn area_px(&self) -> u64 {
        u64::from(self.width()) * u64::from(self.height())
    }

    /// Returns the number of source bytes.
    pub fn bytes_len(&self) -> u64 {
        self.bytes_len
    }

    /// Returns the SHA-256 of the source bytes.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        // A live clone, or a crop of the whole picture, keeps the pixels.
        if let Some(rgb) = Arc::into_inner(mem::take(&mut self.rgb)) {
            buffer_pool::recycle(rgb.into_raw(), self.spare_bytes_max);
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
