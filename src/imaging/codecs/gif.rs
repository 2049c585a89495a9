//! GIF: size and decoder.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::gif::GifDecoder;
use image::metadata::Orientation;

use crate::imaging::codecs::byte_order::le16;
use crate::imaging::codecs::image_crate;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::Raster;

/// Reads width and height of the canvas.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    le16(bytes, 6).zip(le16(bytes, 8))
}

/// Decodes the first frame.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let failed = |error| image_crate::classify(ImageFormat::Gif, error);
    let mut decoder = GifDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let icc = decoder.icc_profile().map_err(failed)?;
    image_crate::decode(decoder, bytes, header, icc, Orientation::NoTransforms)
}
