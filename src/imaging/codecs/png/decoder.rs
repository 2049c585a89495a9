//! Decodes the default image of a PNG file.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::png::PngDecoder;

use crate::imaging::codecs::png::chunks::{Chunks, FORMAT};
use crate::imaging::codecs::png::colour;
use crate::imaging::codecs::{exif, image_crate};
use crate::imaging::error::DecodeError;
use crate::imaging::header::Header;
use crate::imaging::raster::Raster;

/// Decodes the default image.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let chunks = Chunks::read(bytes)?;
    let completed = chunks.completed(bytes);
    let failed = |error| image_crate::classify(FORMAT, error);
    let limits = image_crate::limits(bytes, header);
    let mut decoder =
        PngDecoder::with_limits(Cursor::new(completed.as_ref()), limits).map_err(failed)?;
    let is_grey = !decoder.color_type().has_color();
    let embedded = decoder.icc_profile().map_err(failed)?;
    let profile = colour::profile(&chunks, embedded, is_grey)?;
    let orientation = exif::orientation(chunks.exif);
    image_crate::decode(decoder, bytes, header, profile, orientation)
}
