//! The `imaging` section of the configuration.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::imaging::error::DecodeError;
use crate::imaging::header::Header;

/// The direction of the decoded pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrientationRule {
    /// Turned upright by the EXIF orientation; HEIC, AVIF and JPEG XL by that of their container.
    #[default]
    Upright,
    /// As the file stores them.
    AsStored,
}

/// The colour of the decoded pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColourRule {
    /// Converted from the embedded profile to sRGB, and rounded to 8 bits.
    #[default]
    Srgb,
    /// The stored samples, without the profile, reduced to 8 bits as Pillow's `convert("RGB")`
    /// does.
    AsStored,
}

/// The treatment of transparent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlphaRule {
    /// Blended over white.
    #[default]
    OverWhite,
    /// The colour under the alpha, as if the pixel were opaque.
    Dropped,
}

/// Limits on images, checked before anything is decoded, and rules of reading their pixels.
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
    /// Direction of the pixels: `upright`, by the file's orientation, as viewers show the image, or
    /// `as-stored`, as the authors' program reads it.
    pub orientation: OrientationRule,
    /// Colour of the pixels: `srgb`, converted from the embedded profile, or `as-stored`, without
    /// the profile, as the authors' program reads them. Then the low byte of a 16-bit sample is cut
    /// off, and 16-bit grey is cut at 255.
    pub colour: ColourRule,
    /// Transparent pixels: `over-white` blends them over white. `dropped` ignores alpha, as the
    /// authors' program does; hidden colours appear.
    pub alpha: AlphaRule,
    /// Memory of finished pictures to keep for later ones. Without it, memory allocation is a third
    /// of the time to decode a large photo. 0 keeps none.
    pub spare_bytes_max: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pixels_max: 100_000_000,
            side_max_px: 65_535,
            orientation: OrientationRule::default(),
            colour: ColourRule::default(),
            alpha: AlphaRule::default(),
            spare_bytes_max: ByteSize::mib(256),
        }
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
