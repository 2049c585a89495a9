//! The properties of a JPEG file that follow from its markers alone.

use std::borrow::Cow;

use crate::imaging::codecs::byte_order::be16;
use crate::imaging::codecs::jpeg::markers::{APP14, EOI, SOS, Segments, is_frame};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

const FORMAT: ImageFormat = ImageFormat::Jpeg;

/// First bytes of an Adobe segment.
const ADOBE: &[u8] = b"Adobe";

/// Reads width and height from the frame header.
pub(crate) fn size(bytes: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    let mut segments = Segments::new(bytes);
    while let Some(segment) = segments.next()? {
        if is_frame(segment.marker) {
            let height = be16(segment.payload, 1);
            let width = be16(segment.payload, 3);
            return Ok(width.zip(height));
        }
        if segment.marker == EOI {
            return Err(DecodeError::corrupt(FORMAT, "it has no frame header"));
        }
    }
    Ok(None)
}

/// The effect of the Adobe segment on the meaning of the components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdobeSegment {
    Absent,
    /// Four components are stored inverted.
    InvertsInks,
    /// Three components are RGB.
    MeansRgb,
}

/// The result of a walk over all markers.
pub(crate) struct Structure {
    pub(crate) adobe: AdobeSegment,
    has_filler: bool,
    /// Length up to and including the end-of-image marker.
    len: usize,
}

impl Structure {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut segments = Segments::new(bytes);
        let mut frame: Option<&[u8]> = None;
        let mut is_sequential = false;
        let mut transform: Option<u8> = None;
        let mut scanned = Vec::new();
        while let Some(segment) = segments.next()? {
            match segment.marker {
                EOI => {
                    let frame = frame.unwrap_or_default();
                    if scanned.is_empty() {
                        return Err(DecodeError::corrupt(FORMAT, "it has no image data"));
                    }
                    if is_sequential {
                        check_scanned_once(frame, scanned)?;
                    }
                    let (has_filler, len) = (segments.has_filler, segments.at);
                    return Ok(Self { adobe: adobe_segment(frame, transform), has_filler, len });
                }
                SOS => {
                    let names = segment.payload.get(1..).unwrap_or_default().chunks_exact(2);
                    let count = segment.payload.first().copied().unwrap_or(0);
                    scanned.extend(names.take(usize::from(count)).map(|entry| entry[0]));
                }
                APP14 if segment.payload.starts_with(ADOBE) => {
                    transform = segment.payload.get(11).copied();
                }
                // No decodable file has a second frame header; the size is that of the first.
                marker if is_frame(marker) && frame.is_none() => {
                    frame = Some(segment.payload);
                    is_sequential = matches!(marker, 0xc0 | 0xc1);
                }
                _ => {}
            }
        }
        Err(DecodeError::truncated(FORMAT, "its end-of-image marker is missing"))
    }

    /// Returns the bytes of the image alone, without the parts that the strict decoder refuses.
    ///
    /// It refuses stray bytes between segments, which all other decoders skip. It also treats three
    /// components with an Adobe segment "no transform" as a broken CMYK image. Without that segment
    /// it returns the samples unchanged.
    pub(crate) fn image<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, DecodeError> {
        let bytes = bytes.get(..self.len).unwrap_or(bytes);
        if !self.has_filler && self.adobe != AdobeSegment::MeansRgb {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut image = Vec::with_capacity(bytes.len());
        let mut segments = Segments::new(bytes);
        while let Some(segment) = segments.next()? {
            let is_adobe = segment.marker == APP14 && segment.payload.starts_with(ADOBE);
            if !(is_adobe && self.adobe == AdobeSegment::MeansRgb) {
                image.push(0xff);
                image.extend_from_slice(&bytes[segment.at..segments.at]);
            }
        }
        Ok(Cow::Owned(image))
    }
}

/// Interprets the Adobe segment's transform together with the frame's component names.
fn adobe_segment(frame: &[u8], transform: Option<u8>) -> AdobeSegment {
    let Some(transform) = transform else {
        return AdobeSegment::Absent;
    };
    let names = [6, 9, 12].map(|at| frame.get(at).copied());
    let is_named_rgb = names == [Some(b'R'), Some(b'G'), Some(b'B')];
    if transform == 0 && frame.get(5) == Some(&3) && !is_named_rgb {
        return AdobeSegment::MeansRgb;
    }
    AdobeSegment::InvertsInks
}

/// Checks that the scans of a sequential image hold each component once. The decoder would read a
/// second scan as the end of the picture and leave the rest black.
fn check_scanned_once(frame: &[u8], mut scanned: Vec<u8>) -> Result<(), DecodeError> {
    let components = usize::from(frame.get(5).copied().unwrap_or(0));
    let names = frame.get(6..).unwrap_or_default().chunks_exact(3).map(|entry| entry[0]);
    let mut expected: Vec<u8> = names.take(components).collect();
    expected.sort_unstable();
    scanned.sort_unstable();
    if scanned != expected {
        return Err(DecodeError::corrupt(FORMAT, "its scans do not hold each component once"));
    }
    Ok(())
}
