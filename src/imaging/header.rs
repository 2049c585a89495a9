//! The first bytes of a file: which format it is and how many pixels it claims, without decoding.

use std::fmt;
use std::iter;

use serde::{Deserialize, Serialize};

use super::decode::DecodeError;
use super::jpeg;
use super::tiff_directory::Directory;

/// A format that can be decoded, told by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// JPEG, baseline and progressive.
    Jpeg,
    /// PNG; of an animation the default image.
    Png,
    /// WebP, lossy and lossless; of an animation the first frame.
    WebP,
    /// GIF; of an animation the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; of several pages the first.
    Tiff,
    /// Pixels that an embedder handed in, never a file.
    Rgb,
}

impl ImageFormat {
    /// The format's name in lower case, as it appears in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
            Self::Rgb => "rgb",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What the first bytes say; the size is before orientation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The format, told by content.
    pub format: ImageFormat,
    /// Width in pixels as stored.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
}

impl Header {
    /// Pixels, three times those of a TIFF file: its samples may take up to 48 bytes a pixel while they are decoded,
    /// those of other formats 16.
    pub fn decoding_cost(&self) -> u64 {
        let weight = if self.format == ImageFormat::Tiff { 3 } else { 1 };
        weight * u64::from(self.width) * u64::from(self.height)
    }
}

/// Tells the format by content and reads the size it claims.
pub(super) fn read(bytes: &[u8]) -> Result<Header, DecodeError> {
    let Some(format) = sniff(bytes) else {
        return Err(DecodeError::UnsupportedFormat { found: describe(bytes) });
    };
    let size = match format {
        ImageFormat::Jpeg => jpeg::size(bytes)?,
        ImageFormat::Tiff => Directory::first(bytes).and_then(Directory::size),
        ImageFormat::Png => png_size(bytes),
        ImageFormat::Gif => le16(bytes, 6).zip(le16(bytes, 8)),
        ImageFormat::Bmp => bmp_size(bytes),
        ImageFormat::WebP => webp_size(bytes)?,
        ImageFormat::Rgb => None,
    };
    let Some((width, height)) = size else {
        return Err(DecodeError::truncated(format, "its header is incomplete"));
    };
    Ok(Header { format, width, height })
}

fn sniff(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Some(ImageFormat::Jpeg);
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(ImageFormat::Png);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some(ImageFormat::WebP);
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Some(ImageFormat::Gif);
    }
    // The size of the second header makes two letters into a signature.
    let dib_sizes = [12, 16, 40, 52, 56, 64, 108, 124];
    if bytes.starts_with(b"BM") && le32(bytes, 14).is_some_and(|size| dib_sizes.contains(&size)) {
        return Some(ImageFormat::Bmp);
    }
    if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| bytes.starts_with(*magic)) {
        return Some(ImageFormat::Tiff);
    }
    None
}

/// What content that is no supported image looks like, for the error message.
fn describe(bytes: &[u8]) -> &'static str {
    let brand = if bytes.get(4..8) == Some(b"ftyp") { bytes.get(8..12) } else { None };
    match brand {
        Some(b"avif" | b"avis") => return "an AVIF image",
        Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1") => return "an HEIC image",
        Some(_) => return "a video",
        None => {}
    }
    let binary: [(&[u8], &str); 8] = [
        (b"\xff\x0a", "a JPEG XL image"),
        (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
        (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
        (b"8BPS", "a Photoshop document"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip-compressed data"),
        (b"\x00\x00\x01\x00", "a Windows icon"),
    ];
    if let Some((_, found)) = binary.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return found;
    }
    let start = bytes.get(..512).unwrap_or(bytes);
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "an HTML page"
    } else if text.contains("<svg") {
        "an SVG drawing"
    } else if text.starts_with("<?xml") {
        "an XML document"
    } else if text.starts_with('{') || text.starts_with('[') {
        "JSON"
    } else {
        "no known image format"
    }
}

/// Width and height of the image header chunk, which must come first.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.get(12..16)? != b"IHDR" {
        return Some((0, 0));
    }
    be32(bytes, 16).zip(be32(bytes, 20))
}

/// Width and height of either header generation; a negative height means top-down rows.
fn bmp_size(bytes: &[u8]) -> Option<(u32, u32)> {
    if le32(bytes, 14)? == 12 {
        return le16(bytes, 18).zip(le16(bytes, 20));
    }
    let side = |at| le32(bytes, at).map(|value| value.cast_signed().unsigned_abs());
    side(18).zip(side(22))
}

/// Width and height of the canvas; the file must be as long as its container says.
fn webp_size(bytes: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    let claimed = le32(bytes, 4).map_or(0, |len| u64::from(len) + 8);
    if (bytes.len() as u64) < claimed {
        let detail = format!("it has {} of {claimed} bytes", bytes.len());
        return Err(DecodeError::truncated(ImageFormat::WebP, &detail));
    }
    Ok(match bytes.get(12..16) {
        Some(b"VP8 ") => bytes.get(20..).and_then(vp8_size),
        Some(b"VP8L") => {
            le32(bytes, 21).map(|bits| ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        Some(b"VP8X") => {
            let canvas = webp_side(bytes, 24).zip(webp_side(bytes, 27));
            if !canvas.is_none_or(|canvas| webp_bitstreams_fit(bytes, canvas)) {
                let detail = "its headers disagree about its size";
                return Err(DecodeError::corrupt(ImageFormat::WebP, detail));
            }
            canvas
        }
        Some(_) => Some((0, 0)),
        None => None,
    })
}

fn webp_side(bytes: &[u8], at: usize) -> Option<u32> {
    le24(bytes, at).map(|side| side + 1)
}

/// Whether the lossy bitstreams of an extended WebP file have the size of what they fill, the
/// canvas or the first frame. The decoder asks only when it has decoded them, if at all.
fn webp_bitstreams_fit(bytes: &[u8], canvas: (u32, u32)) -> bool {
    let frame = webp_chunk(bytes, *b"ANMF").unwrap_or_default();
    let mut parts = riff_chunks(frame, 16);
    let in_frame = match parts.next() {
        Some((name, bitstream)) if name == *b"VP8 " => Some(bitstream),
        // What follows transparency is taken for a lossy bitstream, whatever its name.
        Some((name, _)) if name == *b"ALPH" => parts.next().map(|(_, bitstream)| bitstream),
        _ => None,
    };
    let frame_size = webp_side(frame, 6).zip(webp_side(frame, 9));
    let fits = |bitstream: Option<&[u8]>, size| {
        bitstream.and_then(vp8_size).is_none_or(|claimed| Some(claimed) == size)
    };
    fits(webp_chunk(bytes, *b"VP8 "), Some(canvas)) && fits(in_frame, frame_size)
}

/// Width and height in a lossy bitstream.
fn vp8_size(bitstream: &[u8]) -> Option<(u32, u32)> {
    let side = |at| le16(bitstream, at).map(|side| side & 0x3fff);
    side(6).zip(side(8))
}

/// Payload of the first chunk named `name` of a PNG file, wherever it stands.
pub(super) fn png_chunk(bytes: &[u8], name: [u8; 4]) -> Option<&[u8]> {
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

/// Payload of the first chunk named `name` of an extended WebP file.
pub(super) fn webp_chunk(bytes: &[u8], name: [u8; 4]) -> Option<&[u8]> {
    riff_chunks(bytes, 12).find(|(found, _)| *found == name).map(|(_, payload)| payload)
}

/// Names and payloads of the chunks from an offset on; the last payload may be cut off.
fn riff_chunks(bytes: &[u8], mut at: usize) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    iter::from_fn(move || {
        let name = *bytes.get(at..)?.first_chunk()?;
        let len = le32(bytes, at + 4)? as usize;
        let rest = bytes.get(at + 8..)?;
        at += 8 + len + len % 2;
        Some((name, rest.get(..len).unwrap_or(rest)))
    })
}

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from(u16::from_be_bytes(*bytes)))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from(u16::from_le_bytes(*bytes)))
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    let [low, middle, high] = *bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes([low, middle, high, 0]))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
