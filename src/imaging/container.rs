//! PNG, WebP, GIF and BMP: the formats whose decoders need no second opinion.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits};

use super::decode::DecodeError;
use super::header::{self, Header, ImageFormat};
use super::raster::{Layout, Raster, Samples};

/// Where a PNG file says how its samples make a colour, and what it says of indexes.
const PNG_COLOUR_TYPE_AT: usize = 25;
const PNG_PALETTE: u8 = 3;

/// Decodes the first frame of a PNG, WebP, GIF or BMP file.
pub(super) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let format = header.format;
    let failed = |error| classify(format, error);
    let reader = Cursor::new(bytes);
    match format {
        ImageFormat::Png => {
            check_palette(bytes)?;
            let mut decoder =
                PngDecoder::with_limits(reader, limits(bytes, header)).map_err(failed)?;
            let icc = decoder.icc_profile().map_err(failed)?;
            let orientation = orientation(header::png_chunk(bytes, *b"eXIf"));
            raster(decoder, bytes, header, icc, orientation)
        }
        ImageFormat::WebP => {
            let decoder = WebPDecoder::new(reader).map_err(failed)?;
            // Read from the bytes: the decoder would allocate whatever length the chunk claims.
            let icc = header::webp_chunk(bytes, *b"ICCP").map(<[u8]>::to_vec);
            let orientation = orientation(header::webp_chunk(bytes, *b"EXIF"));
            raster(decoder, bytes, header, icc, orientation)
        }
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(reader).map_err(failed)?;
            let icc = decoder.icc_profile().map_err(failed)?;
            raster(decoder, bytes, header, icc, Orientation::NoTransforms)
        }
        _ => {
            let decoder = BmpDecoder::new(reader).map_err(failed)?;
            raster(decoder, bytes, header, None, Orientation::NoTransforms)
        }
    }
}

/// Refuses palettes that are no colours, or more than an index can name: the decoder takes their
/// length on trust.
fn check_palette(bytes: &[u8]) -> Result<(), DecodeError> {
    let is_sound = |palette: &[u8]| palette.len().is_multiple_of(3) && palette.len() <= 256 * 3;
    let has_palette = bytes.get(PNG_COLOUR_TYPE_AT) == Some(&PNG_PALETTE);
    if has_palette && !header::png_chunk(bytes, *b"PLTE").is_none_or(is_sound) {
        return Err(DecodeError::corrupt(ImageFormat::Png, "its palette has a wrong length"));
    }
    Ok(())
}

fn raster(
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

/// Memory that an honest file of this size needs: 16-bit RGBA, and as much again for frames.
fn limits(bytes: &[u8], header: Header) -> Limits {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(pixels * 16 + bytes.len() as u64 * 4 + (16 << 20));
    limits
}

fn orientation(exif: Option<&[u8]>) -> Orientation {
    // Some writers keep the prefix that EXIF has in JPEG files.
    exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

fn classify(format: ImageFormat, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) => DecodeError::from_read(format, &error),
        ImageError::Unsupported(error) => DecodeError::unsupported(format, &error.to_string()),
        ImageError::Limits(_) => {
            DecodeError::corrupt(format, "it needs more memory than its size explains")
        }
        other => DecodeError::corrupt(format, &other.to_string()),
    }
}
