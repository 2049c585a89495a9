//! Decoding through the `image` crate, shared by PNG, WebP, GIF and BMP.

use std::error::Error;
use std::io;

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
        _ => return Err(DecodeError::unsupported(format, "its samples have an unusual type")),
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

/// Maps an error of the `image` crate.
pub(crate) fn classify(format: ImageFormat, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) => DecodeError::from_read(format, &error),
        ImageError::Unsupported(error) => {
            DecodeError::unsupported(format, plain(&error.to_string(), "it has a rare feature"))
        }
        ImageError::Limits(_) => {
            DecodeError::corrupt(format, "it needs more memory than its size explains")
        }
        other => {
            let message = other.to_string();
            if is_end_of_data(&other) {
                return DecodeError::truncated(format, "its data ends early");
            }
            DecodeError::corrupt(format, plain(&message, "its data contradicts the format"))
        }
    }
}

/// The ends of messages of decoders that have no type for the end of the bytes: GIF, PNG.
const END_IN_WORDS: [&str; 3] =
    ["unexpected end of file", "not have enough data for image", "insufficientinput"];

/// Returns true if the error, or one of its causes, is the end of the bytes.
fn is_end_of_data(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let is_end = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        let message = error.to_string().to_ascii_lowercase();
        let is_end_in_words =
            END_IN_WORDS.iter().any(|words| message.trim_end_matches('.').ends_with(words));
        if is_end || is_end_in_words {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns the decoder's own words, without the library's introduction. A message that shows its
/// internal values is replaced.
pub(crate) fn plain<'a>(message: &'a str, replacement: &'a str) -> &'a str {
    let message = message
        .strip_prefix("Format error decoding ")
        .map_or(message, |rest| rest.split_once(": ").map_or(rest, |(_, detail)| detail));
    if message.is_empty() || message.contains(['{', '[', '(', '"']) { replacement } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_no_internal_values() {
        for (message, expected) in [
            ("Format error decoding Png: no chunk", "no chunk"),
            ("Format error decoding Png: CRC error: ChunkType { type: IDAT }", "other"),
            ("Unknown(8)", "other"),
            ("it is short", "it is short"),
        ] {
            assert_eq!(plain(message, "other"), expected);
        }
    }
}
