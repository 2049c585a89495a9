//! PNG: size from the image header chunk, and a palette check before the decoder runs.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::png::PngDecoder;

use crate::imaging::codecs::byte_order::be32;
use crate::imaging::codecs::{exif, image_crate};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::Raster;

const FORMAT: ImageFormat = ImageFormat::Png;

/// Offset of the colour type in the image header chunk, which comes first.
const COLOUR_TYPE_AT: usize = 25;

/// Colour type of an image with a palette.
const PALETTE: u8 = 3;

/// Reads width and height from the image header chunk, which must come first.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.get(12..16)? != b"IHDR" {
        return Some((0, 0));
    }
    be32(bytes, 16).zip(be32(bytes, 20))
}

/// Decodes the default image.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    check_palette(bytes)?;
    let failed = |error| image_crate::classify(FORMAT, error);
    let limits = image_crate::limits(bytes, header);
    let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(failed)?;
    let icc = decoder.icc_profile().map_err(failed)?;
    let orientation = exif::orientation(chunk(bytes, *b"eXIf"));
    image_crate::decode(decoder, bytes, header, icc, orientation)
}

/// Refuses a palette that is not a list of at most 256 colours. The decoder trusts its length.
fn check_palette(bytes: &[u8]) -> Result<(), DecodeError> {
    let is_sound = |palette: &[u8]| palette.len().is_multiple_of(3) && palette.len() <= 256 * 3;
    let has_palette = bytes.get(COLOUR_TYPE_AT) == Some(&PALETTE);
    if has_palette && !chunk(bytes, *b"PLTE").is_none_or(is_sound) {
        return Err(DecodeError::corrupt(FORMAT, "its palette has a wrong length"));
    }
    Ok(())
}

/// Returns the payload of the first chunk named `name`, anywhere in the file.
fn chunk(bytes: &[u8], name: [u8; 4]) -> Option<&[u8]> {
    let mut at = 8;
    loop {
        let len = be32(bytes, at)? as usize;
        let payload = bytes.get(at + 8..)?.get(..len)?;
        if bytes.get(at + 4..at + 8)? == name.as_slice() {
            return Some(payload);
        }
        at += 12 + len;
    }
}
