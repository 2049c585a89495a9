//! The first picture of an image sequence that has no primary image.
//!
//! Source: ISO/IEC 14496-12, sections 8.3 to 8.7.

use std::borrow::Cow;

use crate::imaging::codecs::heif::boxes::{Fields, boxes, child};
use crate::imaging::codecs::heif::coded::{Coded, Coding};
use crate::imaging::codecs::heif::plan::{Alpha, Picture, Source};
use crate::imaging::codecs::heif::properties::{Property, colour};
use crate::imaging::codecs::heif::view::View;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

/// Bytes of a picture's sample entry before its boxes.
const SAMPLE_ENTRY_LEN: usize = 78;

/// A track, as far as its first picture needs it.
struct Track<'a> {
    id: u32,
    handler: [u8; 4],
    /// The track of which this one is auxiliary, as its alpha.
    auxiliary_of: Option<u32>,
    samples: &'a [u8],
}

/// Returns the size of the pictures of the first track.
pub(crate) fn size(movie: &[u8]) -> Option<(u32, u32)> {
    let entry = sample_entry(main_track(movie)?.samples)?;
    Some((u32::from(entry.width), u32::from(entry.height)))
}

/// Plans the first picture of the first track.
pub(crate) fn first_picture<'a>(
    file: &'a [u8],
    format: ImageFormat,
    movie: &'a [u8],
) -> Result<Picture<'a>, DecodeError> {
    let damaged = || DecodeError::corrupt(format, "its sequence is damaged");
    let track = main_track(movie).ok_or_else(damaged)?;
    let picture = |track: &Track<'a>| -> Result<Picture<'a>, DecodeError> {
        let entry = sample_entry(track.samples).ok_or_else(damaged)?;
        let coded = coded(file, format, track, &entry)?;
        let (width, height) = (coded.width, coded.height);
        let view = View::whole(width, height);
        let (colour, icc) = (coded.colour, entry.icc());
        let source = Source::Coded(coded);
        Ok(Picture { source, width, height, view, icc, colour, alpha: None })
    };
    let alpha = tracks(movie)
        .find(|other| other.handler == *b"auxv" && other.auxiliary_of == Some(track.id));
    let mut main = picture(&track)?;
    if let Some(alpha) = alpha {
        main.alpha = Some(Alpha { picture: Box::new(picture(&alpha)?), is_multiplied: false });
    }
    Ok(main)
}

fn main_track(movie: &[u8]) -> Option<Track<'_>> {
    tracks(movie).find(|track| matches!(&track.handler, b"pict" | b"vide"))
}

fn tracks(movie: &[u8]) -> impl Iterator<Item = Track<'_>> {
    let tracks = boxes(movie).filter(|entry| entry.kind == *b"trak" && !entry.is_cut);
    tracks.filter_map(|entry| track(entry.payload))
}

fn track(payload: &[u8]) -> Option<Track<'_>> {
    let mut header = Fields(child(payload, *b"tkhd")?);
    let (version, _) = header.version_and_flags()?;
    header.bytes(if version == 1 { 16 } else { 8 })?;
    let id = header.u32()?;
    let media = child(payload, *b"mdia")?;
    let handler = *child(media, *b"hdlr")?.get(8..)?.first_chunk()?;
    let samples = child(child(media, *b"minf")?, *b"stbl")?;
    let auxiliary_of =
        child(payload, *b"tref").and_then(|references| Fields(child(references, *b"auxl")?).u32());
    Some(Track { id, handler, auxiliary_of, samples })
}

/// The description of the samples of a track.
struct SampleEntry<'a> {
    kind: [u8; 4],
    width: u16,
    height: u16,
    boxes: &'a [u8],
}

fn sample_entry(samples: &[u8]) -> Option<SampleEntry<'_>> {
    let list = child(samples, *b"stsd")?.get(8..)?;
    let entry = boxes(list).next().filter(|entry| !entry.is_cut)?;
    let mut fields = Fields(entry.payload.get(24..)?);
    let (width, height) = (fields.u16()?, fields.u16()?);
    let boxes = entry.payload.get(SAMPLE_ENTRY_LEN..)?;
    Some(SampleEntry { kind: entry.kind, width, height, boxes })
}

impl<'a> SampleEntry<'a> {
    fn colours(&self) -> impl Iterator<Item = Property<'a>> {
        let colours = boxes(self.boxes).filter(|entry| entry.kind == *b"colr" && !entry.is_cut);
        colours.filter_map(|entry| colour(Fields(entry.payload)))
    }

    fn icc(&self) -> Option<&'a [u8]> {
        self.colours().find_map(|colour| match colour {
            Property::Icc(icc) => Some(icc),
            _ => None,
        })
    }
}

fn coded<'a>(
    file: &'a [u8],
    format: ImageFormat,
    track: &Track<'a>,
    entry: &SampleEntry<'a>,
) -> Result<Coded<'a>, DecodeError> {
    let (coding, name) = match &entry.kind {
        #[cfg(feature = "heic")]
        b"hvc1" | b"hev1" => (Coding::Hevc, *b"hvcC"),
        #[cfg(feature = "avif")]
        b"av01" => (Coding::Av1, *b"av1C"),
        other => {
            let name = String::from_utf8_lossy(other);
            let feature = format!("it has a sequence of the kind `{name}`");
            return Err(DecodeError::unsupported(format, &feature));
        }
    };
    let damaged = || DecodeError::corrupt(format, "its sequence is damaged");
    let configuration = child(entry.boxes, name).ok_or_else(damaged)?;
    let (offset, len) = first_sample(track.samples).ok_or_else(damaged)?;
    let data = usize::try_from(offset)
        .ok()
        .and_then(|offset| file.get(offset..)?.get(..len as usize))
        .ok_or_else(|| DecodeError::truncated(format, "the data of an image ends early"))?;
    let colour = entry.colours().find_map(|colour| match colour {
        Property::CodePoints(colour) => Some(colour),
        _ => None,
    });
    Ok(Coded {
        format,
        coding,
        configuration,
        data: Cow::Borrowed(data),
        width: u32::from(entry.width),
        height: u32::from(entry.height),
        operating_point: 0,
        colour,
    })
}

/// Returns offset and length of the first sample, which is the first of the first chunk.
fn first_sample(samples: &[u8]) -> Option<(u64, u32)> {
    let mut sizes = Fields(child(samples, *b"stsz")?);
    sizes.version_and_flags()?;
    let (common, count) = (sizes.u32()?, sizes.u32()?);
    let len = if common == 0 { sizes.u32()? } else { common };
    let short = child(samples, *b"stco").and_then(|list| {
        let mut fields = Fields(list.get(8..)?);
        fields.u32().map(u64::from)
    });
    let offset = short.or_else(|| Fields(child(samples, *b"co64")?.get(8..)?).u64())?;
    (count > 0).then_some((offset, len))
}
