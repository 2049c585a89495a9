//! HEVC pictures, decoded with `heifer-hevc-dec`.
//!
//! Source of the configuration: ISO/IEC 14496-15, section 8.3.2.

use heifer_hevc_dec::Error;
use heifer_hevc_dec::decoder::{DecodeOptions, decode_picture};
use heifer_hevc_dec::nal::NalUnit;
use heifer_hevc_dec::params::{ParameterSets, Sps};

use crate::imaging::codecs::heif::boxes::Fields;
use crate::imaging::codecs::heif::code_points::CodePoints;
use crate::imaging::codecs::heif::coded::{Coded, Form};
use crate::imaging::codecs::heif::planes::{Chroma, Planes, Samples};
use crate::imaging::error::DecodeError;

const START_CODE: [u8; 3] = [0, 0, 1];

/// Offset of the first of the four bytes of the form in the configuration.
const CHROMA_AT: usize = 16;

/// Reads depth and chroma from a configuration.
pub(crate) fn form(configuration: &[u8]) -> Option<Form> {
    let [chroma, luma_depth, ..] = *configuration.get(CHROMA_AT..)?.first_chunk::<4>()?;
    Some(Form { is_grey: matches!(chroma & 3, 0), is_deep: luma_depth & 7 != 0 })
}

/// Decodes the first picture.
pub(crate) fn decode(coded: &Coded<'_>) -> Result<Planes, DecodeError> {
    let format = coded.format;
    let damaged = || DecodeError::corrupt(format, "the configuration of its decoder is damaged");
    let (mut stream, length_len) = parameter_sets(coded.configuration).ok_or_else(damaged)?;
    let sequence = sequence(&stream);
    let damaged = || DecodeError::corrupt(format, "the parts of a picture are longer than it");
    append(&mut stream, &coded.data, length_len).ok_or_else(damaged)?;

    let options = DecodeOptions {
        skip_loop_filters: false,
        verify_hash: true,
        max_pixels: coded.pixels_max(),
    };
    let frame = decode_picture(&stream, options).map_err(|error| classify(coded, &error))?;
    drop(stream);
    let chroma = match frame.chroma_format {
        0 => Chroma::None,
        1 => Chroma::Quarter,
        2 => Chroma::Half,
        _ => Chroma::Full,
    };
    let [depth, chroma_depth] = frame.bit_depth;
    if chroma != Chroma::None && depth != chroma_depth {
        let feature = "it has luma and chroma of different depths";
        return Err(DecodeError::unsupported(format, feature));
    }
    let usability = sequence.as_ref().and_then(|sequence| sequence.vui.as_ref());
    let colour = CodePoints {
        primaries: usability.map_or(2, |usability| usability.colour_primaries),
        transfer: usability.map_or(2, |usability| usability.transfer_characteristics),
        matrix: frame.matrix_coeffs,
        is_full_range: frame.full_range,
    };
    let planes = Planes {
        width: frame.widths[0],
        height: frame.heights[0],
        chroma,
        depth,
        colour,
        samples: Samples::Words(frame.planes),
    };
    let fits = (0..if chroma == Chroma::None { 1 } else { 3 })
        .all(|plane| planes.plane_size(plane) == (frame.widths[plane], frame.heights[plane]));
    if fits {
        Ok(planes)
    } else {
        Err(DecodeError::corrupt(format, "its luma and chroma disagree about its size"))
    }
}

/// Returns the parameter sets of a configuration as a stream, and the number of bytes of a length.
fn parameter_sets(configuration: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut fields = Fields(configuration);
    fields.bytes(21)?;
    let length_len = usize::from(fields.u8()? & 3) + 1;
    let mut stream = Vec::with_capacity(configuration.len() + 64);
    for _ in 0..fields.u8()? {
        fields.u8()?;
        for _ in 0..fields.u16()? {
            let len = usize::from(fields.u16()?);
            append_unit(&mut stream, fields.bytes(len)?);
        }
    }
    Some((stream, length_len))
}

/// Appends units that follow their lengths.
fn append(stream: &mut Vec<u8>, data: &[u8], length_len: usize) -> Option<()> {
    let mut fields = Fields(data);
    stream.reserve(data.len() + 64);
    while !fields.0.is_empty() {
        let len = fields.bytes(length_len)?;
        let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        append_unit(stream, fields.bytes(len)?);
    }
    Some(())
}

/// Appends a unit of the base layer. Others are further views or qualities of the same picture.
fn append_unit(stream: &mut Vec<u8>, unit: &[u8]) {
    if let Some([first, second]) = unit.first_chunk()
        && first & 1 == 0
        && second >> 3 == 0
    {
        stream.extend(START_CODE);
        stream.extend(unit);
    }
}

/// Returns the first sequence parameter set of a stream.
fn sequence(stream: &[u8]) -> Option<Sps> {
    let mut sets = ParameterSets::default();
    for unit in heifer_hevc_dec::nal::split_annex_b(stream) {
        sets.add(&NalUnit::parse(unit).ok()?).ok()?;
    }
    sets.sps.into_iter().flatten().next()
}

fn classify(coded: &Coded<'_>, error: &Error) -> DecodeError {
    match error {
        Error::Unimplemented(message) if message.contains("size limit") => coded.wrong_size(),
        Error::Unimplemented(feature) => DecodeError::unsupported(coded.format, feature),
        Error::UnexpectedEof => {
            DecodeError::corrupt(coded.format, "the data of a picture ends early")
        }
        error => DecodeError::corrupt(coded.format, &error.to_string()),
    }
}
