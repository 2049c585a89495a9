//! Reads format and size of a file without decoding it.

#[cfg(any(feature = "heic", feature = "avif"))]
use crate::imaging::codecs::heif;
#[cfg(feature = "jxl")]
use crate::imaging::codecs::jxl;
use crate::imaging::codecs::{bmp, gif, jpeg, png, signature, tiff, webp};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::settings::Settings;

/// Length in bytes below which a file is small, and the pixels that it may claim. Formats that
/// compress without limit can fill any size from a few bytes, and each pixel takes memory and time.
const SMALL_BYTES: u64 = 100_000;
const SMALL_PIXELS_MAX: u64 = 40_000_000;

/// Pixels that any file of HEIC, AVIF and JPEG XL may have: those of a phone's photo. A plain
/// picture of these formats takes almost no bytes, and decoding it takes as long as any other.
const PIXELS_OF_FEW_BYTES_MAX: u64 = 12_500_000;

/// Pixels per byte of a larger file of them; photos have about ten and drawings a hundred.
const PIXELS_PER_BYTE_MAX: u64 = 125;

/// An image file with its header and digest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbedFile<'bytes> {
    pub(crate) bytes: &'bytes [u8],
    /// The result of [`probe`] for these bytes.
    pub(crate) header: Header,
    /// SHA-256 of the bytes.
    pub(crate) sha256: [u8; 32],
}

/// Reads format and stored size, and checks the size against the limits. Decodes nothing.
///
/// # Errors
///
/// - [`DecodeError::Empty`] without bytes.
/// - [`DecodeError::UnsupportedFormat`] if the content is not a supported image.
/// - [`DecodeError::TooLarge`] if the size exceeds the limits.
/// - [`DecodeError::TooSparse`] if the file is too short for the size.
/// - [`DecodeError::Truncated`] or [`DecodeError::Corrupt`] if the header itself is broken.
pub fn probe(bytes: &[u8], settings: &Settings) -> Result<Header, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let header = read_header(bytes)?;
    settings.check_size(header)?;
    check_density(bytes, header)?;
    Ok(header)
}

/// Refuses an image with more pixels than so few bytes may have.
fn check_density(bytes: &[u8], header: Header) -> Result<(), DecodeError> {
    let Header { format, width, height } = header;
    let bytes_len = bytes.len() as u64;
    let pixels_max = match format {
        ImageFormat::Heic | ImageFormat::Avif | ImageFormat::Jxl => {
            bytes_len.saturating_mul(PIXELS_PER_BYTE_MAX).max(PIXELS_OF_FEW_BYTES_MAX)
        }
        _ if bytes_len < SMALL_BYTES => SMALL_PIXELS_MAX,
        _ => return Ok(()),
    };
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(DecodeError::TooSparse { format, width, height, bytes_len, pixels_max });
    }
    Ok(())
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
        #[cfg(any(feature = "heic", feature = "avif"))]
        ImageFormat::Heic | ImageFormat::Avif => heif::size(bytes, format)?,
        #[cfg(feature = "jxl")]
        ImageFormat::Jxl => jxl::size(bytes)?,
        _ => None,
    };
    let Some((width, height)) = size else {
        return Err(DecodeError::truncated(format, "its header is incomplete"));
    };
    Ok(Header { format, width, height })
}
