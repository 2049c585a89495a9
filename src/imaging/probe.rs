//! Reads format and size of a file without decoding it.

use crate::imaging::codecs::{bmp, gif, jpeg, png, signature, tiff, webp};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::settings::Settings;

/// Reads format and stored size, and checks the size against the limits. Decodes nothing.
///
/// # Errors
///
/// - [`DecodeError::Empty`] without bytes.
/// - [`DecodeError::UnsupportedFormat`] if the content is not a supported image.
/// - [`DecodeError::TooLarge`] if the size exceeds the limits.
/// - [`DecodeError::Truncated`] or [`DecodeError::Corrupt`] if the header itself is broken.
pub fn probe(bytes: &[u8], settings: &Settings) -> Result<Header, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let header = read_header(bytes)?;
    settings.check_size(header)?;
    Ok(header)
}

fn read_header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let Some(format) = signature::detect(bytes) else {
        return Err(DecodeError::UnsupportedFormat { found: signature::describe(bytes) });
    };
    let size = match format {
        ImageFormat::Jpeg => jpeg::size(bytes)?,
        ImageFormat::Png => png::size(bytes),
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
