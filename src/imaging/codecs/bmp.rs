//! Windows bitmap: size and decoder.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::metadata::Orientation;

use crate::imaging::codecs::byte_order::{le16, le32};
use crate::imaging::codecs::image_crate;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::Raster;

/// Reads width and height from either header generation. A negative height means top-down rows.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    if le32(bytes, 14)? == 12 {
        return le16(bytes, 18).zip(le16(bytes, 20));
    }
    let side = |at| le32(bytes, at).map(|value| value.cast_signed().unsigned_abs());
    side(18).zip(side(22))
}

/// Decodes the image.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes))
        .map_err(|error| image_crate::classify(ImageFormat::Bmp, error))?;
    image_crate::decode(decoder, bytes, header, None, Orientation::NoTransforms)
}
