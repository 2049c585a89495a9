//! The chunks of a PNG file.

use std::borrow::Cow;

use crate::imaging::codecs::byte_order::be32;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

pub(crate) const FORMAT: ImageFormat = ImageFormat::Png;

/// Bytes of the signature.
const SIGNATURE_LEN: usize = 8;

/// Bytes of a chunk around its payload: length, name, checksum.
const FRAME_LEN: usize = 12;

/// Colour type of an image with a palette.
const PALETTE: u8 = 3;

/// An empty chunk that ends the file.
const END: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];

/// Reads width and height from the image header chunk, which must come first.
pub(crate) fn size(bytes: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    match bytes.get(12..16) {
        None => Ok(None),
        Some(b"IHDR") => Ok(be32(bytes, 16).zip(be32(bytes, 20))),
        Some(b"CgBI") => {
            let feature = "it is in the form that Apple writes into iOS apps (CgBI)";
            Err(DecodeError::unsupported(FORMAT, feature))
        }
        Some(_) => Err(DecodeError::corrupt(FORMAT, "its first chunk is not the image header")),
    }
}

/// A chunk whose checksum was verified, if it is needed to decode the pixels.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    name: &'a [u8],
    payload: &'a [u8],
    is_sound: bool,
}

/// The chunks that the decoder does not read itself.
#[derive(Default)]
pub(crate) struct Chunks<'a> {
    pub(crate) exif: Option<&'a [u8]>,
    pub(crate) cicp: Option<&'a [u8]>,
    pub(crate) gamma: Option<&'a [u8]>,
    pub(crate) chromaticities: Option<&'a [u8]>,
    pub(crate) has_srgb: bool,
    pub(crate) has_profile: bool,
    /// Offset of the end chunk, or of the first byte that belongs to no whole chunk.
    end: usize,
    has_end: bool,
    /// Payload of image data that the end of the file cuts.
    cut: Option<&'a [u8]>,
}

impl<'a> Chunks<'a> {
    /// Reads all chunks up to the end.
    ///
    /// # Errors
    /// Fails if a chunk is damaged that the pixels need, or if there is no image data.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut chunks = Self { end: SIGNATURE_LEN, ..Self::default() };
        let mut has_data = false;
        while let Some(chunk) = chunk_at(bytes, chunks.end) {
            if matches!(chunk.name, b"IHDR" | b"PLTE" | b"IDAT") && !chunk.is_sound {
                let name = String::from_utf8_lossy(chunk.name);
                let detail = format!("the checksum of its {name} chunk is wrong");
                return Err(DecodeError::corrupt(FORMAT, &detail));
            }
            match chunk.name {
                b"IEND" => {
                    chunks.has_end = true;
                    break;
                }
                b"IDAT" => has_data = true,
                b"PLTE" => check_palette(bytes, chunk.payload)?,
                _ => chunks.add(chunk),
            }
            chunks.end += FRAME_LEN + chunk.payload.len();
        }
        if !chunks.has_end {
            chunks.cut = cut_data(bytes.get(chunks.end..).unwrap_or_default())?;
            has_data |= chunks.cut.is_some();
        }
        if has_data { Ok(chunks) } else { Err(missing_data(chunks.has_end)) }
    }

    fn add(&mut self, chunk: Chunk<'a>) {
        // The first counts. One with a wrong checksum is ignored, except for the orientation, which
        // editing tools change without updating it.
        let payload = chunk.is_sound.then_some(chunk.payload);
        match chunk.name {
            b"eXIf" => self.exif = self.exif.or(Some(chunk.payload)),
            b"cICP" => self.cicp = self.cicp.or(payload),
            b"gAMA" => self.gamma = self.gamma.or(payload),
            b"cHRM" => self.chromaticities = self.chromaticities.or(payload),
            b"sRGB" => self.has_srgb |= chunk.is_sound,
            b"iCCP" => self.has_profile |= chunk.is_sound,
            _ => {}
        }
    }

    /// Returns the file with an end chunk. Image data that is cut may still be enough for all rows:
    /// its checksums are at its end.
    pub(crate) fn completed(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.has_end {
            return Cow::Borrowed(bytes);
        }
        let mut completed = bytes[..self.end].to_vec();
        if let Some(data) = self.cut {
            let len = u32::try_from(data.len()).expect("it is shorter than the chunk claims");
            completed.extend(len.to_be_bytes());
            completed.extend(b"IDAT");
            completed.extend(data);
            completed.extend(checksum(b"IDAT", data).to_be_bytes());
        }
        completed.extend(END);
        Cow::Owned(completed)
    }
}

/// Returns the payload of image data that the end of the file cuts, or `None` if the rest is
/// something else. Fails if the rest has further chunks: then its length is wrong.
fn cut_data(rest: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    let Some(payload) = rest.get(8..).filter(|_| rest[4..8] == *b"IDAT") else {
        return Ok(None);
    };
    let len = be32(rest, 0).map_or(0, |len| len as usize);
    let payload = payload.get(..len).unwrap_or(payload);
    if memchr::memmem::find(payload, b"IDAT").is_some()
        || memchr::memmem::find(payload, &END[4..]).is_some()
    {
        return Err(DecodeError::corrupt(FORMAT, "the length of its IDAT chunk is wrong"));
    }
    Ok(Some(payload))
}

fn missing_data(has_end: bool) -> DecodeError {
    if has_end {
        DecodeError::corrupt(FORMAT, "it has no image data")
    } else {
        DecodeError::truncated(FORMAT, "its data ends early")
    }
}

/// Returns the chunk at an offset, or `None` if it is not whole.
fn chunk_at(bytes: &[u8], at: usize) -> Option<Chunk<'_>> {
    let len = be32(bytes, at)? as usize;
    let name = bytes.get(at + 4..at + 8)?;
    let payload = bytes.get(at + 8..)?.get(..len)?;
    let stored = be32(bytes, at + 8 + len)?;
    Some(Chunk { name, payload, is_sound: checksum(name, payload) == stored })
}

fn checksum(name: &[u8], payload: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(name);
    checksum.update(payload);
    checksum.finalize()
}

/// Refuses a palette that is not a list of at most 256 colours. The decoder trusts its length.
fn check_palette(bytes: &[u8], palette: &[u8]) -> Result<(), DecodeError> {
    let is_sound = palette.len().is_multiple_of(3) && palette.len() <= 256 * 3;
    // Offset of the colour type in the image header chunk, which comes first.
    if bytes.get(25) == Some(&PALETTE) && !is_sound {
        return Err(DecodeError::corrupt(FORMAT, "its palette has a wrong length"));
    }
    Ok(())
}
