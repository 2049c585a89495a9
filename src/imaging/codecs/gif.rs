//! GIF: size and decoder.

use std::borrow::Cow;
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

/// Offset of the canvas' width. The height follows.
const CANVAS_AT: usize = 6;

/// Reads width and height of the canvas. A side of 0 is that of the first frame.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let (width, height) = le16(bytes, CANVAS_AT).zip(le16(bytes, CANVAS_AT + 2))?;
    if width > 0 && height > 0 {
        return Some((width, height));
    }
    let Some(frame) = first_frame(bytes) else { return Some((width, height)) };
    let side = |canvas, at| if canvas > 0 { Some(canvas) } else { le16(bytes, frame + at) };
    side(width, 5).zip(side(height, 7))
}

/// Decodes the first frame.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let failed = |error| image_crate::classify(ImageFormat::Gif, error);
    let repaired = with_canvas(bytes, header);
    let mut decoder = GifDecoder::new(Cursor::new(repaired.as_ref())).map_err(failed)?;
    let icc = decoder.icc_profile().map_err(failed)?;
    image_crate::decode(decoder, bytes, header, icc, Orientation::NoTransforms)
}

/// Writes the size into a canvas without one, and moves the frame to its corner.
fn with_canvas(bytes: &[u8], header: Header) -> Cow<'_, [u8]> {
    let stored = [le16(bytes, CANVAS_AT), le16(bytes, CANVAS_AT + 2)];
    let sides = [header.width, header.height];
    let Some(frame) = first_frame(bytes).filter(|_| stored.contains(&Some(0))) else {
        return Cow::Borrowed(bytes);
    };
    let mut repaired = bytes.to_vec();
    for (index, (stored, side)) in stored.into_iter().zip(sides).enumerate() {
        if stored == Some(0) {
            let side = u16::try_from(side).unwrap_or(u16::MAX);
            repaired[CANVAS_AT + 2 * index..][..2].copy_from_slice(&side.to_le_bytes());
            repaired[frame + 1 + 2 * index..][..2].fill(0);
        }
    }
    Cow::Owned(repaired)
}

/// Returns the offset of the first frame's descriptor, which is whole.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(10)?;
    let has_palette = flags & 0x80 != 0;
    let mut at = 13 + if has_palette { 3 << ((flags & 7) + 1) } else { 0 };
    while *bytes.get(at)? == 0x21 {
        at += 2;
        loop {
            let len = usize::from(*bytes.get(at)?);
            at += 1 + len;
            if len == 0 {
                break;
            }
        }
    }
    (bytes[at] == 0x2c && bytes.len() >= at + 10).then_some(at)
}
