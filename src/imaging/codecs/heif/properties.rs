//! The properties of an item that change its pixels.
//!
//! Source: ISO/IEC 23008-12, section 6.5.

use crate::imaging::codecs::heif::boxes::{Entry, Fields};
use crate::imaging::codecs::heif::code_points::CodePoints;

/// A property of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Property<'a> {
    /// Width and height in pixels, before all transforms.
    Size(u32, u32),
    /// Configuration of a HEVC decoder.
    #[cfg_attr(not(feature = "heic"), expect(dead_code, reason = "there is no decoder"))]
    Hevc(&'a [u8]),
    /// Configuration of an AV1 decoder.
    #[cfg_attr(not(feature = "avif"), expect(dead_code, reason = "there is no decoder"))]
    Av1(&'a [u8]),
    Icc(&'a [u8]),
    CodePoints(CodePoints),
    /// A number of quarter turns, anticlockwise.
    Rotation(u8),
    /// 0 exchanges top and bottom, 1 left and right.
    Mirror(u8),
    CleanAperture(CleanAperture),
    /// Name of the kind of an auxiliary image.
    Auxiliary(&'a [u8]),
    /// Number of the operating point of a scalable AV1 image.
    OperatingPoint(u8),
    /// A layer of an image with several.
    Layer(u16),
    /// A property that changes nothing, or is not known.
    Other([u8; 4]),
    /// A known property whose bytes are too few.
    Broken,
}

/// The rectangle that is shown, as fractions: its size, and the distance of its centre from the
/// image's centre.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CleanAperture {
    pub(crate) width: (u32, u32),
    pub(crate) height: (u32, u32),
    pub(crate) x: (i32, u32),
    pub(crate) y: (i32, u32),
}

impl<'a> Property<'a> {
    pub(crate) fn read(entry: Entry<'a>) -> Self {
        let fields = Fields(entry.payload);
        let read = match &entry.kind {
            b"ispe" => size(fields),
            b"hvcC" => Some(Self::Hevc(entry.payload)),
            b"av1C" => Some(Self::Av1(entry.payload)),
            // Colours that cannot be read are no reason to refuse the pixels.
            b"colr" => colour(fields).or(Some(Self::Other(entry.kind))),
            b"irot" => byte(fields).map(|turns| Self::Rotation(turns & 3)),
            b"imir" => byte(fields).map(|axis| Self::Mirror(axis & 1)),
            b"clap" => clean_aperture(fields).map(Self::CleanAperture),
            b"auxC" => auxiliary(fields),
            b"a1op" => byte(fields).map(Self::OperatingPoint),
            b"lsel" => layer(fields),
            other => Some(Self::Other(*other)),
        };
        read.filter(|_| !entry.is_cut).unwrap_or(Self::Broken)
    }
}

fn byte(mut fields: Fields<'_>) -> Option<u8> {
    fields.u8()
}

fn layer(mut fields: Fields<'_>) -> Option<Property<'_>> {
    fields.u16().map(Property::Layer)
}

fn size(mut fields: Fields<'_>) -> Option<Property<'_>> {
    fields.version_and_flags()?;
    Some(Property::Size(fields.u32()?, fields.u32()?))
}

/// Reads a colour property; the names of the box's kinds are those of ISO/IEC 14496-12.
pub(crate) fn colour(mut fields: Fields<'_>) -> Option<Property<'_>> {
    match &fields.code()? {
        b"nclx" => {
            let mut number = || fields.u16().map(|number| u8::try_from(number).unwrap_or(u8::MAX));
            let (primaries, transfer, matrix) = (number()?, number()?, number()?);
            let is_full_range = fields.u8()? & 0x80 != 0;
            Some(Property::CodePoints(CodePoints { primaries, transfer, matrix, is_full_range }))
        }
        b"prof" | b"rICC" => Some(Property::Icc(fields.0)),
        _ => Some(Property::Other(*b"colr")),
    }
}

fn clean_aperture(mut fields: Fields<'_>) -> Option<CleanAperture> {
    let mut unsigned = || Some((fields.u32()?, fields.u32()?));
    let (width, height) = (unsigned()?, unsigned()?);
    let mut signed = || Some((fields.u32()?.cast_signed(), fields.u32()?));
    Some(CleanAperture { width, height, x: signed()?, y: signed()? })
}

fn auxiliary(mut fields: Fields<'_>) -> Option<Property<'_>> {
    fields.version_and_flags()?;
    let mut parts = fields.0.split(|byte| *byte == 0);
    parts.next().map(Property::Auxiliary)
}
