//! JPEG: the marker walk that finds truncation, and the decoder behind it.
//!
//! The decoder (`zune-jpeg`) fills what is missing with grey. A quality score of half a picture
//! would be worse than none, so the markers are walked first: a file without its end-of-image
//! marker is truncated, also where only those two bytes are missing, because nothing then tells a
//! complete picture from one that lost its last rows. Pillow refuses the same files.
//!
//! Colour follows ITU-T T.872 and what Adobe's software writes: three components are YCbCr unless
//! an Adobe segment or the component names say RGB; four are CMYK, or YCCK if the Adobe segment
//! says so, with the inks inverted where there is an Adobe segment.

use std::borrow::Cow;

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::{ZByteIoError, ZCursor};
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::buffers;
use super::decode::DecodeError;
use super::header::{Header, ImageFormat, be16};
use super::raster::{Layout, Raster, Samples, rgb_from_ycbcr};

const FORMAT: ImageFormat = ImageFormat::Jpeg;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP14: u8 = 0xee;

/// What an Adobe segment starts with.
const ADOBE: &[u8] = b"Adobe";

/// Width and height from the frame header.
pub(super) fn size(bytes: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
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

/// Decodes a whole JPEG file.
pub(super) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let Header { width, height, .. } = header;
    let structure = Structure::of(bytes)?;
    let bytes = structure.image(bytes)?;

    // Strict: otherwise what cannot be decoded becomes grey.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes.as_ref()), options);
    decoder.decode_headers().map_err(|error| classify(&error))?;
    if decoder.dimensions() != Some((width as usize, height as usize)) {
        return Err(DecodeError::corrupt(FORMAT, "its headers disagree about its size"));
    }

    let stored = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    let wanted = match (structure.colour, stored) {
        (Colour::PlainRgb, _) => ColorSpace::YCbCr,
        (_, ColorSpace::Luma | ColorSpace::CMYK | ColorSpace::YCCK) => stored,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let mut samples = buffers::zeroed(width as usize * height as usize * wanted.num_components());
    decoder.decode_into(&mut samples).map_err(|error| classify(&error))?;

    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);
    let layout = match wanted {
        ColorSpace::Luma => Layout::Gray,
        ColorSpace::CMYK | ColorSpace::YCCK => Layout::Cmyk,
        _ => Layout::Rgb,
    };
    Ok(Raster {
        width,
        height,
        layout,
        samples: Samples::Eight(inks(samples, wanted, structure.colour)),
        icc: decoder.icc_profile(),
        orientation,
    })
}

/// Turns stored CMYK and YCCK samples into ink amounts, 255 for full ink; leaves others alone.
fn inks(mut samples: Vec<u8>, stored: ColorSpace, colour: Colour) -> Vec<u8> {
    if stored == ColorSpace::YCCK {
        // The luma and chroma encode the inverse of the stored inks, and those are inverted too.
        for pixel in samples.as_chunks_mut::<4>().0 {
            let [y, cb, cr, k] = *pixel;
            let [c, m, y] = rgb_from_ycbcr([y, cb, cr]);
            *pixel = [c, m, y, 255 - k];
        }
    } else if stored == ColorSpace::CMYK && colour == Colour::Adobe {
        for sample in &mut samples {
            *sample = 255 - *sample;
        }
    }
    samples
}

fn classify(error: &DecodeErrors) -> DecodeError {
    match error {
        DecodeErrors::Unsupported(scheme) => {
            DecodeError::unsupported(FORMAT, &format!("{scheme:?} coding is not supported"))
        }
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(ZByteIoError::NotEnoughBytes(..)) => {
            DecodeError::truncated(FORMAT, "its data ends early")
        }
        // The decoder has no variant for sample precisions other than 8 bits.
        DecodeErrors::SofError(message) if message.contains("bits of precision") => {
            DecodeError::unsupported(FORMAT, "its samples do not have 8 bits")
        }
        DecodeErrors::Format(message)
        | DecodeErrors::HuffmanDecode(message)
        | DecodeErrors::SofError(message)
        | DecodeErrors::SosError(message)
        | DecodeErrors::DqtError(message)
        | DecodeErrors::MCUError(message) => DecodeError::corrupt(FORMAT, message),
        DecodeErrors::FormatStatic(message) => DecodeError::corrupt(FORMAT, message),
        other => DecodeError::corrupt(FORMAT, &format!("{other:?}")),
    }
}

/// How the components are to be read, as far as the Adobe segment has a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    /// No Adobe segment.
    Unmarked,
    /// An Adobe segment: four components are stored inverted.
    Adobe,
    /// An Adobe segment that makes three components RGB.
    PlainRgb,
}

/// What the walk over all markers found.
struct Structure {
    colour: Colour,
    has_filler: bool,
    /// Length up to and including the end-of-image marker.
    len: usize,
}

impl Structure {
    fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut segments = Segments::new(bytes);
        let mut frame: Option<&[u8]> = None;
        let mut is_sequential = false;
        let mut adobe: Option<u8> = None;
        let mut scanned = Vec::new();
        while let Some(segment) = segments.next()? {
            match segment.marker {
                EOI => {
                    let frame = frame.unwrap_or_default();
                    check_scans(frame, &scanned, is_sequential)?;
                    let (has_filler, len) = (segments.has_filler, segments.at);
                    return Ok(Self { colour: colour_of(frame, adobe), has_filler, len });
                }
                SOS => {
                    let names = segment.payload.get(1..).unwrap_or_default().chunks_exact(2);
                    let count = segment.payload.first().copied().unwrap_or(0);
                    scanned.extend(names.take(usize::from(count)).map(|entry| entry[0]));
                }
                APP14 if segment.payload.starts_with(ADOBE) => {
                    adobe = segment.payload.get(11).copied();
                }
                // A later one is in no file that can be decoded; the size is that of the first.
                marker if is_frame(marker) && frame.is_none() => {
                    frame = Some(segment.payload);
                    is_sequential = matches!(marker, 0xc0 | 0xc1);
                }
                _ => {}
            }
        }
        Err(DecodeError::truncated(FORMAT, "its end-of-image marker is missing"))
    }

    /// The bytes of the image alone, as the decoder is to see them.
    ///
    /// A strict decoder refuses stray bytes between segments, which all others skip. And it takes
    /// three components with an Adobe segment that says "no transform" for a broken CMYK image;
    /// without the segment it hands the samples out as they are.
    fn image<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, DecodeError> {
        let bytes = bytes.get(..self.len).unwrap_or(bytes);
        if !self.has_filler && self.colour != Colour::PlainRgb {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut image = Vec::with_capacity(bytes.len());
        let mut segments = Segments::new(bytes);
        while let Some(segment) = segments.next()? {
            let is_adobe = segment.marker == APP14 && segment.payload.starts_with(ADOBE);
            if !(is_adobe && self.colour == Colour::PlainRgb) {
                image.push(0xff);
                image.extend_from_slice(&bytes[segment.at..segments.at]);
            }
        }
        Ok(Cow::Owned(image))
    }
}

/// Reads the Adobe segment together with the frame's component names.
fn colour_of(frame: &[u8], adobe: Option<u8>) -> Colour {
    let Some(transform) = adobe else {
        return Colour::Unmarked;
    };
    let names = [6, 9, 12].map(|at| frame.get(at).copied());
    let is_named_rgb = names == [Some(b'R'), Some(b'G'), Some(b'B')];
    if transform == 0 && frame.get(5) == Some(&3) && !is_named_rgb {
        return Colour::PlainRgb;
    }
    Colour::Adobe
}

/// A sequential image holds each component in one scan; the decoder would take a second scan for
/// the end of the picture and leave the rest black.
fn check_scans(frame: &[u8], scanned: &[u8], is_sequential: bool) -> Result<(), DecodeError> {
    if scanned.is_empty() {
        return Err(DecodeError::corrupt(FORMAT, "it has no image data"));
    }
    let components = usize::from(frame.get(5).copied().unwrap_or(0));
    let names = frame.get(6..).unwrap_or_default().chunks_exact(3).map(|entry| entry[0]);
    let mut scanned = scanned.to_vec();
    scanned.sort_unstable();
    let mut expected: Vec<u8> = names.take(components).collect();
    expected.sort_unstable();
    if is_sequential && scanned != expected {
        return Err(DecodeError::corrupt(FORMAT, "its scans do not hold each component once"));
    }
    Ok(())
}

/// Start-of-frame markers of all coding processes.
fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

/// One marker with what follows it; of a scan the header, not the image data.
struct Segment<'a> {
    marker: u8,
    /// Offset of the marker byte.
    at: usize,
    payload: &'a [u8],
}

/// A walk over the markers of a file, past the image data.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether bytes stood between segments that belong to none.
    has_filler: bool,
}

impl<'a> Segments<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, has_filler: false }
    }

    /// The next segment; none where the bytes end between two segments or in image data.
    fn next(&mut self) -> Result<Option<Segment<'a>>, DecodeError> {
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
            return Err(DecodeError::corrupt(FORMAT, &detail));
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

    /// Moves to the byte after the next 0xff that is no padding and returns where it stands.
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

    /// Moves to the first marker after entropy-coded data: stuffed zeros and restarts belong to it.
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
