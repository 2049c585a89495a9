//! Decoding through the `image` crate, shared by PNG, WebP, GIF and BMP.

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits};

use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::{Layout, Raster, Samples};

/// Runs a decoder within limits. Refuses an image whose size differs from the header's.
pub(crate) fn decode(
    mut decoder: impl ImageDecoder,
    bytes: &[u8],
    header: Header,
    icc: Option<Vec<u8>>,
    orientation: Orientation,
) -> Result<Raster, DecodeError> {
    let Header { format, width, height } = header;
    if decoder.dimensions() != (width, height) {
        return Err(DecodeError::corrupt(format, "its headers disagree about its size"));
    }
    decoder.set_limits(limits(bytes, header)).map_err(|error| classify(format, error))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| classify(format, error))?;
    let (layout, samples) = match decoded {
        DynamicImage::ImageLuma8(image) => (Layout::Gray, Samples::Eight(image.into_raw())),
        DynamicImage::ImageLumaA8(image) => (Layout::GrayAlpha, Samples::Eight(image.into_raw())),
        DynamicImage::ImageRgb8(image) => (Layout::Rgb, Samples::Eight(image.into_raw())),
        DynamicImage::ImageRgba8(image) => (Layout::Rgba, Samples::Eight(image.into_raw())),
        DynamicImage::ImageLuma16(image) => (Layout::Gray, Samples::Sixteen(image.into_raw())),
        DynamicImage::ImageLumaA16(image) => {
            (Layout::GrayAlpha, Samples::Sixteen(image.into_raw()))
        }
        DynamicImage::ImageRgb16(image) => (Layout::Rgb, Samples::Sixteen(image.into_raw())),
        DynamicImage::ImageRgba16(image) => (Layout::Rgba, Samples::Sixteen(image.into_raw())),
        other => {
            let feature = format!("it has {:?} pixels", other.color());
            return Err(DecodeError::unsupported(format, &feature));
        }
    };
    Ok(Raster { width, height, layout, samples, icc, orientation })
}

/// Returns the memory that an honest file of this size needs: 16-bit RGBA, and the same again for
/// frames.
pub(crate) fn limits(bytes: &[u8], header: Header) -> Limits {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(pixels * 16 + bytes.len() as u64 * 4 + (16 << 20));
    limits
}

pub(crate) fn classify(format: ImageFormat, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) => DecodeError::from_read(format, &error),
        ImageError::Unsupported(error) => DecodeError::unsupported(format, &error.to_string()),
        ImageError::Limits(_) => {
            DecodeError::corrupt(format, "it needs more memory than its size explains")
        }
        other => DecodeError::corrupt(format, &other.to_string()),
    }
}
