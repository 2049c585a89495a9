//! Iterates over the marker segments of a JPEG file and skips the image data.

use crate::imaging::codecs::byte_order::be16;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

pub(crate) const SOI: u8 = 0xd8;
pub(crate) const EOI: u8 = 0xd9;
pub(crate) const SOS: u8 = 0xda;
pub(crate) const APP14: u8 = 0xee;

/// Returns true for the start-of-frame marker of any coding process.
pub(crate) fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

/// A marker and its payload. The payload of a scan is its header, without the image data.
pub(crate) struct Segment<'a> {
    pub(crate) marker: u8,
    /// Offset of the marker byte.
    pub(crate) at: usize,
    pub(crate) payload: &'a [u8],
}

/// A cursor over the marker segments of a file.
pub(crate) struct Segments<'a> {
    bytes: &'a [u8],
    /// Offset of the byte after the last segment.
    pub(crate) at: usize,
    /// True if there were bytes between segments that belong to none.
    pub(crate) has_filler: bool,
}

impl<'a> Segments<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, has_filler: false }
    }

    /// Returns the next segment, or `None` if the bytes end between two segments, in a segment or
    /// in image data.
    pub(crate) fn next(&mut self) -> Result<Option<Segment<'a>>, DecodeError> {
        let Some(at) = self.skip_to_marker() else {
            return Ok(None);
        };
        let marker = self.bytes[at];
        self.at = at + 1;
        if matches!(marker, SOI | EOI | 0x01 | 0xd0..=0xd7) {
            return Ok(Some(Segment { marker, at, payload: &[] }));
        }
        let Some(len) = be16(self.bytes, self.at) else {
            return Ok(None);
        };
        let len = len as usize;
        if len < 2 {
            let detail = format!("segment {marker:02x} has length {len}");
            return Err(DecodeError::corrupt(ImageFormat::Jpeg, &detail));
        }
        let Some(payload) = self.bytes.get(self.at + 2..self.at + len) else {
            return Ok(None);
        };
        self.at += len;
        if marker == SOS {
            self.skip_image_data();
        }
        Ok(Some(Segment { marker, at, payload }))
    }

    /// Moves to the byte after the next 0xff that is not padding, and returns its offset.
    fn skip_to_marker(&mut self) -> Option<usize> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let offset = memchr::memchr(0xff, rest)?;
            self.has_filler |= offset > 0;
            let padding = rest[offset..].iter().position(|byte| *byte != 0xff)?;
            let at = self.at + offset + padding;
            if self.bytes[at] != 0 {
                return Some(at);
            }
            self.has_filler = true;
            self.at = at + 1;
        }
    }

    /// Moves to the first marker after entropy-coded data. Stuffed zeros and restart markers are
    /// part of the data.
    fn skip_image_data(&mut self) {
        while let Some(offset) =
            self.bytes.get(self.at..).and_then(|rest| memchr::memchr(0xff, rest))
        {
            let at = self.at + offset;
            match self.bytes.get(at + 1) {
                Some(0x00 | 0xd0..=0xd7) => self.at = at + 2,
                Some(0xff) => self.at = at + 1,
                _ => {
                    self.at = at;
                    return;
                }
            }
        }
        self.at = self.bytes.len();
    }
}
