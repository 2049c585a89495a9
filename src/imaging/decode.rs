//! Decodes bytes to a picture within limits.
//!
//! Decoding blocks; call it on a CPU thread. Each loss is documented where it happens: `srgb`
//! (alpha, bit depth) and `icc_profile` (colours outside sRGB).

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use image::metadata::Orientation;
use sha2::{Digest, Sha256};

#[cfg(any(feature = "heic", feature = "avif"))]
use crate::imaging::codecs::heif;
#[cfg(feature = "jxl")]
use crate::imaging::codecs::jxl;
use crate::imaging::codecs::{bmp, gif, jpeg, png, tiff, webp};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::orient;
use crate::imaging::picture::Picture;
use crate::imaging::probe::{ProbedFile, probe};
use crate::imaging::settings::{OrientationRule, Settings};
use crate::imaging::srgb;

/// Decodes the first frame of an image to upright, opaque 8-bit sRGB.
///
/// Detects the format from the content and applies the EXIF orientation. Converts an embedded
/// colour profile to sRGB, or ignores it if it is broken. Blends alpha over white. The settings may
/// switch off each of the three. A file that ends early is an error, never a half-grey picture.
///
/// Blocks for tens of milliseconds on large images; call it on a thread that may block.
///
/// # Errors
///
/// Every variant of [`DecodeError`]. The limits are checked before anything is decoded, and a panic
/// of the decoder is caught.
pub fn decode(bytes: &[u8], settings: &Settings) -> Result<Picture, DecodeError> {
    let header = probe(bytes, settings)?;
    decode_probed(ProbedFile { bytes, header, sha256: Sha256::digest(bytes).into() }, settings)
}

/// Decodes an image like [`decode`], without reading its header and hashing its bytes again.
///
/// # Errors
/// As [`decode`], after the limits are checked.
pub(crate) fn decode_probed(
    file: ProbedFile<'_>,
    settings: &Settings,
) -> Result<Picture, DecodeError> {
    let ProbedFile { bytes, header, .. } = file;
    let format = header.format;
    let rgb = catch_unwind(AssertUnwindSafe(|| decode_rgb(bytes, header, settings)))
        .unwrap_or_else(|panic| Err(DecodeError::from_panic(format, panic.as_ref())))?;
    Ok(Picture::decoded(rgb, &file, settings.spare_bytes_max.as_u64()))
}

fn decode_rgb(bytes: &[u8], header: Header, settings: &Settings) -> Result<RgbImage, DecodeError> {
    let raster = match header.format {
        ImageFormat::Jpeg => jpeg::decode(bytes, header)?,
        ImageFormat::Png => png::decode(bytes, header)?,
        ImageFormat::WebP => webp::decode(bytes, header)?,
        ImageFormat::Gif => gif::decode(bytes, header)?,
        ImageFormat::Bmp => bmp::decode(bytes, header)?,
        ImageFormat::Tiff => tiff::decode(bytes, header, settings)?,
        #[cfg(any(feature = "heic", feature = "avif"))]
        ImageFormat::Heic | ImageFormat::Avif => heif::decode(bytes, header)?,
        #[cfg(feature = "jxl")]
        ImageFormat::Jxl => jxl::decode(bytes, header)?,
        // Raw pixels, and formats without a decoder in this build, are never detected.
        _ => return Err(DecodeError::unsupported(header.format, "this build cannot decode it")),
    };
    debug_assert_eq!((raster.width, raster.height), (header.width, header.height));
    let orientation = match settings.orientation {
        OrientationRule::Upright => raster.orientation,
        OrientationRule::AsStored => Orientation::NoTransforms,
    };
    let rgb = srgb::convert(raster, settings.colour, settings.alpha);
    Ok(orient::upright(rgb, orientation, settings.spare_bytes_max.as_u64()))
}
