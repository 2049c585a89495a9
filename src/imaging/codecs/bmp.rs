//! Windows and OS/2 bitmap: size, repairs of the header, and decoder.

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::metadata::Orientation;

use crate::imaging::codecs::byte_order::{le16, le32};
use crate::imaging::codecs::image_crate;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::{Layout, Raster, Samples};

const FORMAT: ImageFormat = ImageFormat::Bmp;

/// Offset of the second header. It starts with its length.
const HEADER_AT: usize = 14;

/// Lengths of the second header: the oldest, and that of Windows 3. Those of OS/2 2 are in between
/// or 64.
const CORE_LEN: u32 = 12;
const WINDOWS_LEN: u32 = 40;
const OS2_LENS: [u32; 2] = [16, 64];

/// Reads width and height from either header generation. A negative height means top-down rows.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    if le32(bytes, HEADER_AT)? == CORE_LEN {
        return le16(bytes, 18).zip(le16(bytes, 20));
    }
    let side = |at| le32(bytes, at).map(|value| value.cast_signed().unsigned_abs());
    side(18).zip(side(22))
}

/// Decodes the image.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    check_compression(bytes)?;
    let repaired = with_one_plane(with_windows_header(bytes));
    let decoder = BmpDecoder::new(Cursor::new(repaired.as_ref()))
        .map_err(|error| image_crate::classify(FORMAT, error))?;
    let raster = image_crate::decode(decoder, bytes, header, None, Orientation::NoTransforms)?;
    Ok(opaque_if_invisible(raster))
}

fn header_len(bytes: &[u8]) -> u32 {
    le32(bytes, HEADER_AT).unwrap_or(0)
}

/// Refuses what only printers and OS/2 write, and names it.
fn check_compression(bytes: &[u8]) -> Result<(), DecodeError> {
    let len = header_len(bytes);
    let compression = if len > 16 { le32(bytes, 30).unwrap_or(0) } else { 0 };
    let feature = match (OS2_LENS.contains(&len), compression) {
        (true, 3) => "fax coding is not supported",
        (true, 4) => "run-length coding of 24 bits is not supported",
        (false, 4) => "it contains a JPEG image, which is not supported",
        (false, 5) => "it contains a PNG image, which is not supported",
        (false, 11..=13) => "inks are not supported",
        _ => return Ok(()),
    };
    Err(DecodeError::unsupported(FORMAT, feature))
}

/// Replaces a header of OS/2 2 by that of Windows 3, which has the same fields at its start.
fn with_windows_header(bytes: &[u8]) -> Cow<'_, [u8]> {
    let len = header_len(bytes);
    if !OS2_LENS.contains(&len) {
        return Cow::Borrowed(bytes);
    }
    let end = (HEADER_AT + len as usize).min(bytes.len());
    let mut windows = bytes[HEADER_AT..end].to_vec();
    windows.resize(WINDOWS_LEN as usize, 0);
    windows[..4].copy_from_slice(&WINDOWS_LEN.to_le_bytes());
    let mut repaired = [&bytes[..HEADER_AT], &windows, &bytes[end..]].concat();
    // The pixels moved with the end of the header.
    let pixels = le32(bytes, 10).unwrap_or(0).wrapping_add(WINDOWS_LEN).wrapping_sub(len);
    repaired[10..14].copy_from_slice(&pixels.to_le_bytes());
    Cow::Owned(repaired)
}

/// Replaces 0 planes by 1. The number never had another meaning.
fn with_one_plane(bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let at = if header_len(&bytes) == CORE_LEN { 22 } else { 26 };
    if le16(&bytes, at) != Some(0) {
        return bytes;
    }
    let mut repaired = bytes.into_owned();
    repaired[at] = 1;
    Cow::Owned(repaired)
}

/// Makes an image opaque whose alpha is 0 everywhere: its writer did not set it.
fn opaque_if_invisible(mut raster: Raster) -> Raster {
    if let (Layout::Rgba, Samples::Eight(samples)) = (raster.layout, &mut raster.samples) {
        let pixels = samples.as_chunks_mut::<4>().0;
        if pixels.iter().all(|pixel| pixel[3] == 0) {
            for pixel in pixels {
                pixel[3] = 255;
            }
        }
    }
    raster
}
