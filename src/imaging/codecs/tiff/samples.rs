//! Conversions of samples between the forms that TIFF stores and 8 or 16 interleaved bits.

use tiff::ColorType;
use tiff::decoder::DecodingResult;

use crate::imaging::codecs::tiff::error::FORMAT;
use crate::imaging::error::DecodeError;
use crate::imaging::raster::Samples;

/// Value of the `ExtraSamples` tag for alpha that is already multiplied into the colours.
const ASSOCIATED_ALPHA: u16 = 1;

/// Distance from 0 and 1 up to which a floating-point sample counts as rounded: it does not change
/// the picture.
const FLOAT_TOLERANCE: f64 = 1.0 / 510.0;

/// Returns samples of 8 or 16 bits. Floating point from 0 to 1 becomes 16 bits.
pub(crate) fn from_decoded(
    decoded: DecodingResult,
    colour: ColorType,
) -> Result<Samples, DecodeError> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    fn sixteen(sample: f64) -> Result<u16, DecodeError> {
        // Scientific data and light beyond white have other ranges. It would be a guess which.
        if !(-FLOAT_TOLERANCE..=1.0 + FLOAT_TOLERANCE).contains(&sample) {
            let feature = "it has floating-point samples outside of 0 to 1";
            return Err(DecodeError::unsupported(FORMAT, feature));
        }
        Ok((sample.clamp(0.0, 1.0) * 65_535.0).round() as u16)
    }
    match decoded {
        DecodingResult::U8(samples) if colour.bit_depth() == 8 => Ok(Samples::Eight(samples)),
        DecodingResult::U16(samples) if colour.bit_depth() == 16 => Ok(Samples::Sixteen(samples)),
        DecodingResult::F16(samples) => {
            let samples = samples.into_iter().map(|sample| sixteen(sample.to_f64()));
            Ok(Samples::Sixteen(samples.collect::<Result<_, _>>()?))
        }
        DecodingResult::F32(samples) => {
            let samples = samples.into_iter().map(|sample| sixteen(f64::from(sample)));
            Ok(Samples::Sixteen(samples.collect::<Result<_, _>>()?))
        }
        DecodingResult::F64(samples) => {
            Ok(Samples::Sixteen(samples.into_iter().map(sixteen).collect::<Result<_, _>>()?))
        }
        _ => Err(unsupported(colour)),
    }
}

/// Returns the error of samples of a kind that is not supported.
pub(crate) fn unsupported(colour: ColorType) -> DecodeError {
    let name = match colour {
        ColorType::Gray(_) => "grey",
        ColorType::RGB(_) | ColorType::RGBA(_) => "RGB",
        ColorType::CMYK(_) | ColorType::CMYKA(_) => "CMYK",
        ColorType::YCbCr(_) => "YCbCr",
        ColorType::Lab(_) => "Lab",
        _ => "unusual",
    };
    let (count, bits) = (colour.num_samples(), colour.bit_depth());
    let feature = format!("it has {name} pixels of {count} samples with {bits} bits");
    DecodeError::unsupported(FORMAT, &feature)
}

/// Unpacks samples of 1, 2 or 4 bits to a byte each. Every row of `row_len` samples starts at a
/// byte boundary.
pub(crate) fn unpacked(packed: &[u8], bits: u8, row_len: usize) -> Vec<u8> {
    let mask = (1 << bits) - 1;
    let per_byte = usize::from(8 / bits);
    let row_bytes = row_len.div_ceil(per_byte);
    let mut samples = Vec::with_capacity(packed.len() * per_byte);
    for row in packed.chunks_exact(row_bytes) {
        samples.extend((0..row_len).map(|index| {
            let byte = row[index / per_byte];
            let shift = (per_byte - 1 - index % per_byte) * usize::from(bits);
            (byte >> shift) & mask
        }));
    }
    samples
}

/// Scales unpacked samples of 1, 2 or 4 bits to 0..=255. Leaves deeper samples unchanged.
pub(crate) fn scaled(samples: Samples, bits: u8) -> Samples {
    match (samples, bits) {
        (Samples::Eight(mut samples), 1 | 2 | 4) => {
            let factor = 255 / ((1 << bits) - 1);
            for sample in &mut samples {
                *sample *= factor;
            }
            Samples::Eight(samples)
        }
        (samples, _) => samples,
    }
}

/// Interleaves planes, so that the samples of a pixel are adjacent.
pub(crate) fn interleaved(samples: Samples, planes: usize) -> Samples {
    fn weave<Sample: Copy + Default>(samples: &[Sample], planes: usize) -> Vec<Sample> {
        let plane_len = samples.len() / planes;
        let mut woven = vec![Sample::default(); plane_len * planes];
        for (plane, from) in samples.chunks_exact(plane_len).enumerate() {
            for (pixel, sample) in woven.chunks_exact_mut(planes).zip(from) {
                pixel[plane] = *sample;
            }
        }
        woven
    }
    match samples {
        samples if planes <= 1 => samples,
        Samples::Eight(samples) => Samples::Eight(weave(&samples, planes)),
        Samples::Sixteen(samples) => Samples::Sixteen(weave(&samples, planes)),
    }
}

/// Replaces indexes by the palette's colours. An index past the end of the palette is black.
///
/// The map has 16 bits per channel. Writers scale 8 bits by 256 or by 257; the high byte is right
/// for both. Some do not scale at all: a map without a larger value has 8 bits.
pub(crate) fn palette_lookup(indexes: &[u8], colour_map: &[u16]) -> Vec<u8> {
    let is_scaled = colour_map.iter().any(|value| *value > 255);
    let eight_bits = |value: &u16| value.to_be_bytes()[usize::from(!is_scaled)];
    let len = colour_map.len() / 3;
    let (red, rest) = colour_map.split_at(len);
    let (green, blue) = rest.split_at(len);
    let colour_of = |index: &u8| {
        [red, green, blue].map(|channel| channel.get(usize::from(*index)).map_or(0, eight_bits))
    };
    indexes.iter().flat_map(colour_of).collect()
}

/// Divides alpha out of the colours if `extra` says that it was multiplied in.
pub(crate) fn with_straight_alpha<const N: usize>(samples: Samples, extra: Option<u16>) -> Samples {
    match samples {
        samples if extra != Some(ASSOCIATED_ALPHA) => samples,
        Samples::Eight(mut samples) => {
            for pixel in samples.as_chunks_mut::<N>().0 {
                let alpha = u32::from(pixel[N - 1]);
                for sample in &mut pixel[..N - 1] {
                    let divided = (u32::from(*sample) * 255 + alpha / 2).checked_div(alpha);
                    *sample = divided.unwrap_or(0).min(255) as u8;
                }
            }
            Samples::Eight(samples)
        }
        Samples::Sixteen(mut samples) => {
            for pixel in samples.as_chunks_mut::<N>().0 {
                let alpha = u32::from(pixel[N - 1]);
                for sample in &mut pixel[..N - 1] {
                    let divided = (u32::from(*sample) * 65_535 + alpha / 2).checked_div(alpha);
                    *sample = divided.unwrap_or(0).min(65_535) as u16;
                }
            }
            Samples::Sixteen(samples)
        }
    }
}
