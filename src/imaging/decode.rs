//! From bytes to a picture, within limits: the size is checked before a pixel is decoded.
//!
//! Everything here blocks and is meant for a CPU thread. What a picture loses on the way is written
//! where it is lost: [`super::raster`] (alpha, bit depth), [`super::colour`] (colour profiles).

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytesize::ByteSize;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::header::{self, Header, ImageFormat};
use super::picture::Picture;
use super::{container, jpeg, orient, tiff};

/// Most characters of a decoder's own words that an error repeats; some repeat what the file holds.
const DETAIL_CHARS_MAX: usize = 200;

/// Limits on images, checked before anything is decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Most pixels that an image may have (width × height); more is refused with
    /// `decode.too_large`. Decoding takes 3 to 16 bytes of memory a pixel; a TIFF file with more
    /// than 8 bytes of samples in a pixel, floating point mostly, may have as much fewer.
    pub pixels_max: u64,
    /// Longest side of an image in pixels; more is refused with `decode.too_large`.
    pub side_max_px: u32,
    /// Memory of pictures that are done with, kept for the next ones: asking the system for it
    /// anew takes a third of the time of decoding a large photo. 0 keeps none.
    pub spare_bytes_max: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pixels_max: 100_000_000, side_max_px: 65_535, spare_bytes_max: ByteSize::mib(256) }
    }
}

impl Settings {
    pub(super) fn check_size(&self, header: Header) -> Result<(), DecodeError> {
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

/// Why bytes did not become a picture. None of these is transient: the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are no bytes at all.
    #[error("image has 0 bytes; check that its upload was completed")]
    Empty,
    /// The content is no image, or one of a format that is not decoded.
    #[error("content is {found}; send jpeg, png, webp, gif, bmp or tiff")]
    UnsupportedFormat {
        /// What the content looks like.
        found: &'static str,
    },
    /// The format is known, this kind of it is not.
    #[error("{format} image cannot be decoded: {feature}; convert it to plain jpeg or png")]
    UnsupportedFeature {
        /// The format of the image.
        format: ImageFormat,
        /// What it uses, in the decoder's words.
        feature: String,
    },
    /// The image has more pixels than the limits allow.
    #[error(
        "image is {width}×{height} px, the limits are {megapixels} MP and {side_max_px} px a side; \
         raise imaging.pixels_max and imaging.side_max_px or resize upstream",
        megapixels = *pixels_max as f64 / 1e6
    )]
    TooLarge {
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// The limit on pixels.
        pixels_max: u64,
        /// The limit on either side in pixels.
        side_max_px: u32,
    },
    /// The file ends before the image does.
    #[error("{format} image is cut off: {detail}; upload it again")]
    Truncated {
        /// The format of the image.
        format: ImageFormat,
        /// What is missing.
        detail: String,
    },
    /// The bytes contradict the format.
    #[error("{format} image is damaged: {detail}; export it again")]
    Corrupt {
        /// The format of the image.
        format: ImageFormat,
        /// What is wrong, in the decoder's words.
        detail: String,
    },
    /// The decoder panicked on these bytes.
    #[error("the {format} decoder panicked: {message}; please report the image as a bug")]
    Panicked {
        /// The format of the image.
        format: ImageFormat,
        /// The panic's message.
        message: String,
    },
}

impl DecodeError {
    /// The stable code of the error, as in dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "decode.empty",
            Self::UnsupportedFormat { .. } => "decode.unsupported_format",
            Self::UnsupportedFeature { .. } => "decode.unsupported_feature",
            Self::TooLarge { .. } => "decode.too_large",
            Self::Truncated { .. } => "decode.truncated",
            Self::Corrupt { .. } => "decode.corrupt",
            Self::Panicked { .. } => "decode.panicked",
        }
    }

    pub(super) fn unsupported(format: ImageFormat, feature: &str) -> Self {
        Self::UnsupportedFeature { format, feature: one_line(feature) }
    }

    pub(super) fn truncated(format: ImageFormat, detail: &str) -> Self {
        Self::Truncated { format, detail: one_line(detail) }
    }

    pub(super) fn corrupt(format: ImageFormat, detail: &str) -> Self {
        Self::Corrupt { format, detail: one_line(detail) }
    }

    /// An I/O error of a decoder that reads from memory: nearly always the end of the bytes.
    pub(super) fn from_read(format: ImageFormat, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::truncated(format, "its data ends early"),
            _ => Self::corrupt(format, &error.to_string()),
        }
    }
}

/// Reads format and size from the first bytes and checks the limits; decodes and allocates nothing.
///
/// The size is the stored one, before orientation.
///
/// # Errors
///
/// [`DecodeError::Empty`], [`DecodeError::UnsupportedFormat`],
/// [`DecodeError::TooLarge`], or [`DecodeError::Truncated`] and [`DecodeError::Corrupt`] where the
/// header itself is broken.
pub fn probe(bytes: &[u8], settings: &Settings) -> Result<Header, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let header = header::read(bytes)?;
    settings.check_size(header)?;
    Ok(header)
}

/// Decodes the first frame of an image to upright, opaque 8-bit sRGB.
///
/// The format is told by content. Orientation from EXIF is applied, an embedded colour profile is
/// converted to sRGB (a broken one is ignored), alpha is blended over white. A file that ends
/// early is an error, never a half-grey picture.
///
/// Blocks for tens of milliseconds on large images; call it on a thread that may block.
///
/// # Errors
///
/// Every variant of [`DecodeError`]; the limits are checked before anything is decoded, and a
/// decoder's panic is caught.
pub fn decode(bytes: &[u8], settings: &Settings) -> Result<Picture, DecodeError> {
    let header = probe(bytes, settings)?;
    let spare_bytes_max = settings.spare_bytes_max.as_u64();
    let rgb = catch_unwind(AssertUnwindSafe(|| decode_rgb(bytes, header, settings)))
        .unwrap_or_else(|panic| {
            let message = panic_message(panic.as_ref());
            Err(DecodeError::Panicked { format: header.format, message })
        })?;
    Ok(Picture::decoded(rgb, header.format, bytes, spare_bytes_max))
}

fn decode_rgb(bytes: &[u8], header: Header, settings: &Settings) -> Result<RgbImage, DecodeError> {
    let spare_bytes_max = settings.spare_bytes_max.as_u64();
    let raster = match header.format {
        ImageFormat::Jpeg => jpeg::decode(bytes, header)?,
        ImageFormat::Tiff => tiff::decode(bytes, header, settings)?,
        _ => container::decode(bytes, header)?,
    };
    debug_assert_eq!((raster.width, raster.height), (header.width, header.height));
    let orientation = raster.orientation;
    Ok(orient::upright(raster.into_srgb(), orientation, spare_bytes_max))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        one_line(message)
    } else if let Some(message) = panic.downcast_ref::<String>() {
        one_line(message)
    } else {
        "no message".to_owned()
    }
}

/// A decoder's words as they may stand in a log: without control characters, cut to a readable length.
fn one_line(words: &str) -> String {
    let words = words.trim().chars().take(DETAIL_CHARS_MAX);
    words.map(|character| if character.is_control() { ' ' } else { character }).collect()
}
