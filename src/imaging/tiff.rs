//! TIFF: the first page, in the sample kinds that photographs and scans come in.
//!
//! Grey of 1, 2, 4, 8 and 16 bits, palettes, RGB with and without alpha, CMYK, YCbCr, and floating
//! point samples from 0 to 1, in strips, tiles or planes.

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use tiff::ColorType;
use tiff::TiffError;
use tiff::decoder::ifd::Value;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;

use super::decode::{DecodeError, Settings};
use super::header::{Header, ImageFormat};
use super::raster::{Layout, Raster, Samples, rgb_from_ycbcr};
use super::tiff_directory::Directory;

const FORMAT: ImageFormat = ImageFormat::Tiff;

/// Extra sample that is alpha, already multiplied into the colours.
const ASSOCIATED_ALPHA: u16 = 1;

/// Compression of strips or tiles that are JPEG files.
const JPEG: u16 = 7;

/// Pixels that JPEG strips or tiles may have beyond four times those of the image: those of one
/// large tile, of which a small image fills a corner.
const JPEG_EXCESS_PX: u64 = 1 << 22;

/// Bytes of samples of a pixel with which an image may have all of the pixels that are allowed; a deeper one,
/// floating point mostly, may have as much fewer.
const DEPTH_BYTES: u64 = 8;

/// Decodes the first page of a TIFF file.
pub(super) fn decode(
    bytes: &[u8],
    header: Header,
    settings: &Settings,
) -> Result<Raster, DecodeError> {
    let Header { width, height, .. } = header;
    let directory = Directory::first(bytes);
    if !directory.is_some_and(Directory::values_fit) {
        return Err(DecodeError::truncated(FORMAT, "its directory names more than it holds"));
    }
    // The decoder refuses palettes; it reads the indexes if they are declared as grey.
    let grey = directory.and_then(Directory::palette_declared_grey);
    let is_palette = grey.is_some();
    let bytes = grey.map_or(Cow::Borrowed(bytes), Cow::Owned);

    let mut decoder = Decoder::new(Cursor::new(bytes.as_ref()))
        .map_err(classify)?
        .with_limits(limits(&bytes, header));
    if decoder.dimensions().map_err(classify)? != (width, height) {
        return Err(DecodeError::corrupt(FORMAT, "its directories disagree about its size"));
    }
    check_jpegs(&mut decoder, &bytes, header)?;
    let colour = decoder.colortype().map_err(classify)?;
    let depth_bits = u64::from(colour.bit_depth()) * u64::from(colour.num_samples());
    let depth = depth_bits.div_ceil(8 * DEPTH_BYTES).max(1);
    Settings { pixels_max: settings.pixels_max / depth, ..settings.clone() }.check_size(header)?;
    let mut decoded = DecodingResult::U8(Vec::new());
    let planes = decoder.read_image_to_buffer(&mut decoded).map_err(classify)?.planes;
    let samples = match (decoded, colour.bit_depth()) {
        (DecodingResult::U8(packed), bits @ (1 | 2 | 4)) => {
            let row_len = width as usize * usize::from(colour.num_samples()) / planes;
            Samples::Eight(unpacked(&packed, bits, row_len, !is_palette))
        }
        (decoded, _) => whole_samples(decoded, colour)?,
    };
    let samples = interleaved(samples, planes);

    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(classify)?;
    let extra = extra.and_then(|extra| extra.first().copied());
    let (layout, samples) = match (colour, samples) {
        (ColorType::Gray(_), Samples::Eight(indexes)) if is_palette => {
            let colour_map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(classify)?;
            (Layout::Rgb, Samples::Eight(looked_up(&indexes, &colour_map)))
        }
        (colour, _) if is_palette => {
            let feature = format!("it has a palette and {colour:?} pixels");
            return Err(DecodeError::unsupported(FORMAT, &feature));
        }
        (ColorType::Gray(_), samples) => (Layout::Gray, samples),
        (ColorType::RGB(_), samples) => (Layout::Rgb, samples),
        (ColorType::CMYK(_), samples) => (Layout::Cmyk, samples),
        (ColorType::RGBA(_), samples) => (Layout::Rgba, straight::<4>(samples, extra)),
        (ColorType::Multiband { num_samples: 2, .. }, samples) if extra.is_some() => {
            (Layout::GrayAlpha, straight::<2>(samples, extra))
        }
        (ColorType::YCbCr(8), Samples::Eight(mut samples)) => {
            for pixel in samples.as_chunks_mut::<3>().0 {
                *pixel = rgb_from_ycbcr(*pixel);
            }
            (Layout::Rgb, Samples::Eight(samples))
        }
        (colour, _) => {
            return Err(DecodeError::unsupported(FORMAT, &format!("it has {colour:?} pixels")));
        }
    };
    let orientation = decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms);
    let icc = match decoder.get_tag_u8_vec(Tag::IccProfile) {
        // Colours without their profile would be wrong, and more may be missing.
        Err(TiffError::IoError(error)) => return Err(DecodeError::from_read(FORMAT, &error)),
        icc => icc.ok(),
    };
    Ok(Raster { width, height, layout, samples, icc, orientation })
}

/// Memory that an honest file of this size needs: five samples of 8 bytes a pixel at most.
fn limits(bytes: &[u8], header: Header) -> Limits {
    let pixels = header.width as usize * header.height as usize;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = pixels.saturating_mul(40) + (1 << 20);
    limits.intermediate_buffer_size = pixels.saturating_mul(40) + (1 << 20);
    limits.ifd_value_size = bytes.len();
    limits
}

/// Refuses JPEG strips and tiles that are larger than the image explains: the decoder decodes the
/// whole of each, at the size that it gives itself, and copies its bytes and the common tables.
fn check_jpegs(
    decoder: &mut Decoder<Cursor<&[u8]>>,
    bytes: &[u8],
    header: Header,
) -> Result<(), DecodeError> {
    if decoder.find_tag_unsigned(Tag::Compression).map_err(classify)? != Some(JPEG) {
        return Ok(());
    }
    let (offsets, lens) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(classify)?;
    let lens = decoder.get_tag_u64_vec(lens).map_err(classify)?;
    let tables = decoder.find_tag(Tag::JPEGTables).map_err(classify)?;
    let tables = tables.map(Value::into_u8_vec).transpose().map_err(classify)?;

    let mut pixels_left = 4 * u64::from(header.width) * u64::from(header.height) + JPEG_EXCESS_PX;
    let mut bytes_left = bytes.len().saturating_mul(16) + (1 << 20);
    for (offset, len) in offsets.into_iter().zip(lens) {
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        let rest = rest.unwrap_or_default();
        let part = usize::try_from(len).ok().and_then(|len| rest.get(..len)).unwrap_or(rest);
        // Joined without the end marker of the one and the start marker of the other.
        let (tables, part) = match tables.as_deref().and_then(<[u8]>::split_last_chunk::<2>) {
            Some((tables, _)) => (tables, part.get(2..).unwrap_or_default()),
            None => (&[][..], part),
        };
        let copied = tables.len() + part.len();
        bytes_left = bytes_left.checked_sub(copied).ok_or_else(too_large_inside)?;
        let mut jpeg = JpegDecoder::new(ZCursor::new([tables, part].concat()));
        // One that cannot be read is refused by the decoder, in its words.
        if jpeg.decode_headers().is_ok()
            && let Some((width, height)) = jpeg.dimensions()
        {
            let pixels = width as u64 * height as u64;
            pixels_left = pixels_left.checked_sub(pixels).ok_or_else(too_large_inside)?;
        }
    }
    Ok(())
}

/// Samples of 8 or 16 bits; floating point from 0 to 1 becomes 16 bits.
fn whole_samples(decoded: DecodingResult, colour: ColorType) -> Result<Samples, DecodeError> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    fn sixteen(sample: f64) -> u16 {
        // Not a number becomes 0.
        (sample.clamp(0.0, 1.0) * 65_535.0).round() as u16
    }
    match decoded {
        DecodingResult::U8(samples) if colour.bit_depth() == 8 => Ok(Samples::Eight(samples)),
        DecodingResult::U16(samples) if colour.bit_depth() == 16 => Ok(Samples::Sixteen(samples)),
        DecodingResult::F16(samples) => Ok(Samples::Sixteen(
            samples.into_iter().map(|sample| sixteen(sample.to_f64())).collect(),
        )),
        DecodingResult::F32(samples) => Ok(Samples::Sixteen(
            samples.into_iter().map(|sample| sixteen(f64::from(sample))).collect(),
        )),
        DecodingResult::F64(samples) => {
            Ok(Samples::Sixteen(samples.into_iter().map(sixteen).collect()))
        }
        _ => {
            let feature = format!("it has {colour:?} pixels of an unusual number type");
            Err(DecodeError::unsupported(FORMAT, &feature))
        }
    }
}

/// One byte for each sample of 1, 2 or 4 bits; rows of so many samples start at byte borders.
fn unpacked(packed: &[u8], bits: u8, row_len: usize, as_brightness: bool) -> Vec<u8> {
    let highest = (1 << bits) - 1;
    let factor = if as_brightness { 255 / highest } else { 1 };
    let per_byte = usize::from(8 / bits);
    let row_bytes = row_len.div_ceil(per_byte);
    let mut samples = Vec::with_capacity(packed.len() * per_byte);
    for row in packed.chunks_exact(row_bytes) {
        samples.extend((0..row_len).map(|index| {
            let byte = row[index / per_byte];
            let shift = (per_byte - 1 - index % per_byte) * usize::from(bits);
            ((byte >> shift) & highest) * factor
        }));
    }
    samples
}

/// Brings planes together, so that a pixel's samples are neighbours.
fn interleaved(samples: Samples, planes: usize) -> Samples {
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

/// The palette's colours in place of its indexes; an index past its end is black.
///
/// The map has 16 bits a channel. Writers scale 8 bits by 256 or by 257; the high byte is right
/// for both.
fn looked_up(indexes: &[u8], colour_map: &[u16]) -> Vec<u8> {
    let len = colour_map.len() / 3;
    let (red, rest) = colour_map.split_at(len);
    let (green, blue) = rest.split_at(len);
    let colour_of = |index: &u8| {
        [red, green, blue]
            .map(|channel| channel.get(usize::from(*index)).map_or(0, |v| v.to_be_bytes()[0]))
    };
    indexes.iter().flat_map(colour_of).collect()
}

/// Divides alpha out of the colours where the file says it was multiplied in.
fn straight<const N: usize>(samples: Samples, extra: Option<u16>) -> Samples {
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

fn classify(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) => DecodeError::from_read(FORMAT, &error),
        TiffError::UnsupportedError(error) => DecodeError::unsupported(FORMAT, &error.to_string()),
        TiffError::LimitsExceeded => too_large_inside(),
        other => DecodeError::corrupt(FORMAT, &other.to_string()),
    }
}

fn too_large_inside() -> DecodeError {
    DecodeError::corrupt(FORMAT, "it needs more memory than its size explains")
}
