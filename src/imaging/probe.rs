//! Reads format and size of a file without decoding it.

use crate::imaging::codecs::{bmp, gif, jpeg, png, signature, tiff, webp};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::settings::Settings;

/// Length in bytes below which a file is small, and the pixels that it may claim. Formats that
/// compress without limit can fill any size from a few bytes, and each pixel takes memory and time.
const SMALL_BYTES: u64 = 100_000;
const SMALL_PIXELS_MAX: u64 = 40_000_000;

/// Reads format and stored size, and checks the size against the limits. Decodes nothing.
///
/// # Errors
///
/// - [`DecodeError::Empty`] without bytes.
/// - [`DecodeError::UnsupportedFormat`] if the content is not a supported image.
/// - [`DecodeError::TooLarge`] if the size exceeds the limits, [`DecodeError::ClaimTooLarge`] if it
///   exceeds those of a small file.
/// - [`DecodeError::Truncated`] or [`DecodeError::Corrupt`] if the header itself is broken.
pub fn probe(bytes: &[u8], settings: &Settings) -> Result<Header, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let header = read_header(bytes)?;
    settings.check_size(header)?;
    check_claim(header, bytes.len() as u64)?;
    Ok(header)
}

/// Refuses a small file that claims many pixels.
fn check_claim(header: Header, bytes_len: u64) -> Result<(), DecodeError> {
    let Header { width, height, .. } = header;
    let pixels = u64::from(width) * u64::from(height);
    if bytes_len >= SMALL_BYTES || pixels <= SMALL_PIXELS_MAX {
        return Ok(());
    }
    let (small_bytes, pixels_max) = (SMALL_BYTES, SMALL_PIXELS_MAX);
    Err(DecodeError::ClaimTooLarge { width, height, bytes_len, small_bytes, pixels_max })
}

fn read_header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let Some(format) = signature::detect(bytes) else {
        return Err(DecodeError::UnsupportedFormat { found: signature::describe(bytes) });
    };
    let size = match format {
        ImageFormat::Jpeg => jpeg::size(bytes)?,
        ImageFormat::Png => png::size(bytes)?,
        ImageFormat::WebP => webp::size(bytes)?,
        ImageFormat::Gif => gif::size(bytes),
        ImageFormat::Bmp => bmp::size(bytes),
        ImageFormat::Tiff => tiff::size(bytes),
        ImageFormat::Rgb => None,
    };
    let Some((width, height)) = size else {
        return Err(DecodeError::truncated(format, "its header is incomplete"));
    };
    Ok(Header { format, width, height })
}
