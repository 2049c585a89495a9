//! WebP: size from the container, checked against the bitstreams, and the decoder.

use std::io::Cursor;
use std::iter;

use image::codecs::webp::WebPDecoder;
use image::{ImageDecoder, Rgba};

use crate::imaging::codecs::byte_order::{le16, le24, le32};
use crate::imaging::codecs::{exif, image_crate};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::Raster;

const FORMAT: ImageFormat = ImageFormat::WebP;

/// Reads width and height of the canvas. The file must be as long as its container says.
pub(crate) fn size(bytes: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    let claimed = le32(bytes, 4).map_or(0, |len| u64::from(len) + 8);
    if (bytes.len() as u64) < claimed {
        let detail = format!("it has {} of {claimed} bytes", bytes.len());
        return Err(DecodeError::truncated(FORMAT, &detail));
    }
    Ok(match bytes.get(12..16) {
        Some(b"VP8 ") => bytes.get(20..).and_then(vp8_size),
        Some(b"VP8L") => {
            le32(bytes, 21).map(|bits| ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        Some(b"VP8X") => {
            let canvas = side(bytes, 24).zip(side(bytes, 27));
            if !canvas.is_none_or(|canvas| bitstreams_fit(bytes, canvas)) {
                let detail = "its headers disagree about its size";
                return Err(DecodeError::corrupt(FORMAT, detail));
            }
            canvas
        }
        Some(_) => Some((0, 0)),
        None => None,
    })
}

/// Decodes the first frame.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    check_bitstreams(bytes)?;
    let failed = |error| image_crate::classify(FORMAT, error);
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    // The canvas starts transparent, which is white; the file's background colour is a hint.
    let opacity = if decoder.color_type().has_alpha() { 0 } else { 255 };
    if chunk(bytes, *b"ANIM").is_some() {
        decoder.set_background_color(Rgba([255, 255, 255, opacity])).map_err(failed)?;
    }
    // Read from the bytes: the decoder would allocate whatever length the chunk claims.
    let icc = chunk(bytes, *b"ICCP").map(<[u8]>::to_vec);
    let orientation = exif::orientation(chunk(bytes, *b"EXIF"));
    image_crate::decode(decoder, bytes, header, icc, orientation)
}

fn side(bytes: &[u8], at: usize) -> Option<u32> {
    le24(bytes, at).map(|side| side + 1)
}

/// Returns true if the lossy bitstreams of an extended file have the size of the canvas or the
/// first frame that they fill. The decoder checks this after decoding, or not at all.
fn bitstreams_fit(bytes: &[u8], canvas: (u32, u32)) -> bool {
    let frame = chunk(bytes, *b"ANMF").unwrap_or_default();
    let mut parts = riff_chunks(frame, 16);
    let in_frame = match parts.next() {
        Some((name, bitstream)) if name == *b"VP8 " => Some(bitstream),
        // The decoder reads the chunk after `ALPH` as a lossy bitstream, regardless of its name.
        Some((name, _)) if name == *b"ALPH" => parts.next().map(|(_, bitstream)| bitstream),
        _ => None,
    };
    let frame_size = side(frame, 6).zip(side(frame, 9));
    let fits = |bitstream: Option<&[u8]>, size| {
        bitstream.and_then(vp8_size).is_none_or(|claimed| Some(claimed) == size)
    };
    fits(chunk(bytes, *b"VP8 "), Some(canvas)) && fits(in_frame, frame_size)
}

/// Refuses lossy bitstreams that are cut, or whose size their data cannot fill: the decoder reads
/// missing data as zeros, and allocates the size that they claim.
fn check_bitstreams(bytes: &[u8]) -> Result<(), DecodeError> {
    let frame = chunk(bytes, *b"ANMF").unwrap_or_default();
    for (name, len, bitstream) in whole_chunks(bytes, 12).chain(whole_chunks(frame, 16)) {
        if !matches!(&name, b"VP8 " | b"VP8L" | b"ALPH" | b"ANMF") {
            continue;
        }
        if bitstream.len() < len {
            return Err(DecodeError::truncated(FORMAT, "its image data ends early"));
        }
        if name == *b"VP8 " && !explains_size(bitstream) {
            let detail = "its image data is too short for its size";
            return Err(DecodeError::truncated(FORMAT, detail));
        }
        if name == *b"ANMF" {
            break;
        }
    }
    Ok(())
}

/// Returns true if the first partition of a lossy bitstream has a prediction mode for each of its
/// macroblocks. At the fixed probabilities of key frames (RFC 6386, 11.2), a mode takes 3.4 bits at
/// least.
fn explains_size(bitstream: &[u8]) -> bool {
    let (Some(tag), Some((width, height))) = (le24(bitstream, 0), vp8_size(bitstream)) else {
        return false;
    };
    let partition_len = u64::from(tag >> 5);
    let macroblocks = u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16));
    let is_there = partition_len + 10 <= bitstream.len() as u64;
    is_there && 80 * (partition_len + 8) >= 34 * macroblocks
}

/// Reads width and height from a lossy bitstream.
fn vp8_size(bitstream: &[u8]) -> Option<(u32, u32)> {
    let bits = |at| le16(bitstream, at).map(|side| side & 0x3fff);
    bits(6).zip(bits(8))
}

/// Returns the payload of the first chunk named `name` of an extended file.
fn chunk(bytes: &[u8], name: [u8; 4]) -> Option<&[u8]> {
    riff_chunks(bytes, 12).find(|(found, _)| *found == name).map(|(_, payload)| payload)
}

/// Iterates over names and payloads of the chunks, starting at an offset. The last payload may be
/// truncated.
fn riff_chunks(bytes: &[u8], at: usize) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    whole_chunks(bytes, at).map(|(name, _, payload)| (name, payload))
}

/// Does the same, and returns the length that each chunk claims.
fn whole_chunks(bytes: &[u8], mut at: usize) -> impl Iterator<Item = ([u8; 4], usize, &[u8])> {
    iter::from_fn(move || {
        let name = *bytes.get(at..)?.first_chunk()?;
        let len = le32(bytes, at + 4)? as usize;
        let rest = bytes.get(at + 8..)?;
        at += 8 + len + len % 2;
        Some((name, len, rest.get(..len).unwrap_or(rest)))
    })
}
