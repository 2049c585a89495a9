//! Decodes the first page with the `tiff` crate.

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use tiff::ColorType;
use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use crate::imaging::codecs::tiff::directory::Directory;
use crate::imaging::codecs::tiff::error::{FORMAT, classify};
use crate::imaging::codecs::tiff::jpeg_chunks;
use crate::imaging::codecs::tiff::rewrite::rewritten;
use crate::imaging::codecs::tiff::samples;
use crate::imaging::codecs::ycbcr::rgb_from_ycbcr;
use crate::imaging::error::DecodeError;
use crate::imaging::header::Header;
use crate::imaging::raster::{Layout, Raster, Samples};
use crate::imaging::settings::Settings;

/// Bytes of samples per pixel up to which the full pixel limit applies. A deeper image, mostly
/// floating point, may have proportionally fewer pixels.
const DEPTH_BYTES: u64 = 8;

type PageDecoder<'a> = Decoder<Cursor<&'a [u8]>>;

/// Decodes the first page.
pub(crate) fn decode(
    bytes: &[u8],
    header: Header,
    settings: &Settings,
) -> Result<Raster, DecodeError> {
    let Header { width, height, .. } = header;
    let Some(directory) = Directory::first(bytes).filter(|directory| directory.values_fit()) else {
        return Err(DecodeError::truncated(FORMAT, "its directory lists values beyond its end"));
    };
    let mut page = rewritten(bytes, directory, header)?;
    // The decoder refuses palettes, but reads the indexes if they are declared as grey.
    let grey = Directory::first(&page).and_then(Directory::palette_declared_grey);
    let is_palette = grey.is_some();
    if let Some(grey) = grey {
        page = Cow::Owned(grey);
    }

    let mut decoder = Decoder::new(Cursor::new(page.as_ref()))
        .map_err(classify)?
        .with_limits(limits(&page, header));
    if decoder.dimensions().map_err(classify)? != (width, height) {
        return Err(DecodeError::corrupt(FORMAT, "its directories disagree about its size"));
    }
    jpeg_chunks::check(&mut decoder, &page, header)?;
    let colour = decoder.colortype().map_err(classify)?;
    check_depth(colour, header, settings)?;

    let stored = read_samples(&mut decoder, colour, width)?;
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(classify)?;
    let extra = extra.and_then(|extra| extra.first().copied());
    let (layout, samples) = if is_palette {
        (Layout::Rgb, palette_colours(&mut decoder, colour, stored)?)
    } else {
        colours(colour, samples::scaled(stored, colour.bit_depth()), extra)?
    };
    let orientation = orientation(&mut decoder);
    Ok(Raster { width, height, layout, samples, icc: icc(&mut decoder)?, orientation })
}

/// Returns the memory that an honest file of this size needs: at most five samples of 8 bytes per
/// pixel.
fn limits(bytes: &[u8], header: Header) -> Limits {
    let pixels = header.width as usize * header.height as usize;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = pixels.saturating_mul(40) + (1 << 20);
    limits.intermediate_buffer_size = pixels.saturating_mul(40) + (1 << 20);
    limits.ifd_value_size = bytes.len();
    limits
}

/// Applies the pixel limit, lowered for images with more than [`DEPTH_BYTES`] per pixel.
fn check_depth(colour: ColorType, header: Header, settings: &Settings) -> Result<(), DecodeError> {
    let depth_bits = u64::from(colour.bit_depth()) * u64::from(colour.num_samples());
    let depth = depth_bits.div_ceil(8 * DEPTH_BYTES).max(1);
    Settings { pixels_max: settings.pixels_max / depth, ..settings.clone() }.check_size(header)
}

/// Reads all samples, interleaved. Samples of 1, 2 or 4 bits are unpacked, but not scaled.
fn read_samples(
    decoder: &mut PageDecoder<'_>,
    colour: ColorType,
    width: u32,
) -> Result<Samples, DecodeError> {
    let mut decoded = DecodingResult::U8(Vec::new());
    let planes = decoder.read_image_to_buffer(&mut decoded).map_err(classify)?.planes;
    let samples = match (decoded, colour.bit_depth()) {
        (DecodingResult::U8(packed), bits @ (1 | 2 | 4)) => {
            let row_len = width as usize * usize::from(colour.num_samples()) / planes;
            Samples::Eight(samples::unpacked(&packed, bits, row_len))
        }
        (decoded, _) => samples::from_decoded(decoded, colour)?,
    };
    Ok(samples::interleaved(samples, planes))
}

/// Replaces palette indexes by the palette's colours.
fn palette_colours(
    decoder: &mut PageDecoder<'_>,
    colour: ColorType,
    indexes: Samples,
) -> Result<Samples, DecodeError> {
    let (ColorType::Gray(_), Samples::Eight(indexes)) = (colour, indexes) else {
        return Err(DecodeError::unsupported(FORMAT, "it has a palette and further samples"));
    };
    let colour_map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(classify)?;
    Ok(Samples::Eight(samples::palette_lookup(&indexes, &colour_map)))
}

/// Converts samples without a palette: YCbCr to RGB, and multiplied alpha to straight alpha.
fn colours(
    colour: ColorType,
    samples: Samples,
    extra: Option<u16>,
) -> Result<(Layout, Samples), DecodeError> {
    Ok(match (colour, samples) {
        (ColorType::Gray(_), samples) => (Layout::Gray, samples),
        (ColorType::RGB(_), samples) => (Layout::Rgb, samples),
        (ColorType::CMYK(_), samples) => (Layout::Cmyk, samples),
        (ColorType::RGBA(_), samples) => {
            (Layout::Rgba, samples::with_straight_alpha::<4>(samples, extra))
        }
        (ColorType::Multiband { num_samples: 2, .. }, samples) if extra.is_some() => {
            (Layout::GrayAlpha, samples::with_straight_alpha::<2>(samples, extra))
        }
        (ColorType::YCbCr(8), Samples::Eight(mut samples)) => {
            for pixel in samples.as_chunks_mut::<3>().0 {
                *pixel = rgb_from_ycbcr(*pixel);
            }
            (Layout::Rgb, Samples::Eight(samples))
        }
        (colour, _) => return Err(samples::unsupported(colour)),
    })
}

fn orientation(decoder: &mut PageDecoder<'_>) -> Orientation {
    decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

fn icc(decoder: &mut PageDecoder<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
    match decoder.get_tag_u8_vec(Tag::IccProfile) {
        // Colours without their profile would be wrong, and more may be missing.
        Err(TiffError::IoError(error)) => Err(DecodeError::from_read(FORMAT, &error)),
        profile => Ok(profile.ok()),
    }
}
