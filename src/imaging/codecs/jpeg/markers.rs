//! Iterates over the marker segments of a JPEG file.

use crate::imaging::codecs::byte_order::be16;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

pub(crate) const FORMAT: ImageFormat = ImageFormat::Jpeg;

pub(crate) const DHT: u8 = 0xc4;
pub(crate) const DAC: u8 = 0xcc;
pub(crate) const SOI: u8 = 0xd8;
pub(crate) const EOI: u8 = 0xd9;
pub(crate) const SOS: u8 = 0xda;
pub(crate) const DQT: u8 = 0xdb;
pub(crate) const DNL: u8 = 0xdc;
pub(crate) const DRI: u8 = 0xdd;
pub(crate) const DHP: u8 = 0xde;
pub(crate) const APP0: u8 = 0xe0;
pub(crate) const APP1: u8 = 0xe1;
pub(crate) const APP2: u8 = 0xe2;
pub(crate) const APP14: u8 = 0xee;
/// Start of frame of JPEG-LS.
pub(crate) const SOF55: u8 = 0xf7;

/// Returns true for the start-of-frame marker of any coding process.
pub(crate) fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf | SOF55) && !matches!(marker, DHT | 0xc8 | DAC)
}

/// Returns true for a restart marker.
pub(crate) fn is_restart(marker: u8) -> bool {
    matches!(marker, 0xd0..=0xd7)
}

/// A marker, its payload, and the image data behind it.
pub(crate) struct Segment<'a> {
    pub(crate) marker: u8,
    pub(crate) payload: &'a [u8],
    /// The entropy-coded data that follows a scan header, with stuffed zeros and restart markers.
    /// Empty for other markers.
    pub(crate) data: &'a [u8],
}

/// A cursor over the marker segments of a file.
pub(crate) struct Segments<'a> {
    bytes: &'a [u8],
    /// Offset of the byte after the last segment.
    at: usize,
}

impl<'a> Segments<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the next segment, or `None` if the bytes end between two segments or in a segment.
    /// Stray bytes between segments are skipped, as other decoders do.
    pub(crate) fn next(&mut self) -> Result<Option<Segment<'a>>, DecodeError> {
        let Some(at) = self.skip_to_marker() else {
            return Ok(None);
        };
        let marker = self.bytes[at];
        self.at = at + 1;
        if matches!(marker, SOI | EOI | 0x01) || is_restart(marker) {
            return Ok(Some(Segment { marker, payload: &[], data: &[] }));
        }
        let Some(len) = be16(self.bytes, self.at) else {
            return Ok(None);
        };
        let len = len as usize;
        if len < 2 {
            let detail = format!("segment {marker:02x} has length {len}");
            return Err(DecodeError::corrupt(FORMAT, &detail));
        }
        let Some(payload) = self.bytes.get(self.at + 2..self.at + len) else {
            return Ok(None);
        };
        self.at += len;
        let data = if marker == SOS { self.image_data() } else { &[] };
        Ok(Some(Segment { marker, payload, data }))
    }

    /// Returns the next marker without moving, or `None` at the end of the file.
    pub(crate) fn peek_marker(&self) -> Option<u8> {
        let ahead = Self { bytes: self.bytes, at: self.at };
        let mut ahead = ahead;
        ahead.skip_to_marker().map(|at| ahead.bytes[at])
    }

    /// Moves to the byte after the next 0xff that is not padding, and returns its offset.
    fn skip_to_marker(&mut self) -> Option<usize> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let offset = memchr::memchr(0xff, rest)?;
            let padding = rest[offset..].iter().position(|byte| *byte != 0xff)?;
            let at = self.at + offset + padding;
            if self.bytes[at] != 0 {
                return Some(at);
            }
            self.at = at + 1;
        }
    }

    /// Moves to the first marker after entropy-coded data, and returns the data.
    fn image_data(&mut self) -> &'a [u8] {
        let start = self.at;
        while let Some(offset) =
            self.bytes.get(self.at..).and_then(|rest| memchr::memchr(0xff, rest))
        {
            let at = self.at + offset;
            match self.bytes.get(at + 1) {
                Some(0x00 | 0xd0..=0xd7) => self.at = at + 2,
                Some(0xff) => self.at = at + 1,
                _ => {
                    self.at = at;
                    return &self.bytes[start..at];
                }
            }
        }
        self.at = self.bytes.len();
        &self.bytes[start..]
    }
}
