//! JPEG XL: size and decoder, for bare codestreams and for those in a container.
//!
//! A recompressed JPEG has all of its pixels in the codestream; the data that restores its bytes is
//! skipped.

use std::borrow::Cow;

use image::metadata::Orientation;
use jxl::api::{
    AlphaMode, Endianness, Event, ExtraChannel, JxlBasicInfo, JxlBitDepth, JxlColorEncoding,
    JxlColorProfile, JxlColorType, JxlDataFormat, JxlDecoder, JxlDecoderOptions, JxlOutputBuffer,
    JxlParallelRunner, JxlParallelRunnerFun, JxlPixelFormat, JxlPrimaries, JxlTransferFunction,
    JxlWhitePoint, ProfileLevel,
};
use jxl::error::Error;

use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::{Layout, Raster, Samples};

const FORMAT: ImageFormat = ImageFormat::Jxl;

/// Side of the smallest group of pixels that is decoded at once.
const GROUP_SIDE: u32 = 128;

/// Steps per group of pixels that an honest file may take: several passes, and frames that other
/// frames refer to.
const STEPS_PER_GROUP: u64 = 32;

/// Message of the error that ends the decoding when no steps are left.
const NO_STEPS_LEFT: &str = "no steps left";

/// Reads width and height before the turn.
pub(crate) fn size(bytes: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    let mut decoder = JxlDecoder::new(options(None));
    let mut input = bytes;
    let info = basic_info(&mut decoder, &mut input)?;
    let (width, height) = info.size;
    Ok(u32::try_from(width).ok().zip(u32::try_from(height).ok()))
}

/// Decodes the first frame that is shown.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let Header { width, height, .. } = header;
    let pixels = width as usize * height as usize;
    // The decoder counts at least 16 columns, three colours and all extra channels.
    let mut decoder = JxlDecoder::new(options(Some((pixels + 16 * height as usize) * 16)));
    let mut input = bytes;
    let info = basic_info(&mut decoder, &mut input)?;
    if info.size != (width as usize, height as usize) {
        return Err(DecodeError::corrupt(FORMAT, "its headers disagree about its size"));
    }
    let layout = layout(&decoder, &info)?;
    let is_deep = !matches!(info.bit_depth, JxlBitDepth::Int { bits_per_sample: ..=8 });
    let (color_type, channels) = match layout {
        Layout::Gray => (JxlColorType::Grayscale, 1),
        Layout::GrayAlpha => (JxlColorType::GrayscaleAlpha, 2),
        Layout::Rgba => (JxlColorType::Rgba, 4),
        _ => (JxlColorType::Rgb, 3),
    };
    let color_data_format = Some(if is_deep {
        JxlDataFormat::U16 { endianness: Endianness::native(), bit_depth: 16 }
    } else {
        JxlDataFormat::U8 { bit_depth: 8 }
    });
    let extra_channel_format = vec![None; info.extra_channels.len()];
    decoder
        .set_pixel_format(JxlPixelFormat { color_type, color_data_format, extra_channel_format })
        .map_err(|error| classify(&error))?;
    let icc = icc(&decoder)?;

    let mut steps = Steps::of(header);
    let len = pixels * channels;
    let samples = if is_deep {
        let mut samples = vec![0_u16; len];
        frame(&mut decoder, input, bytemuck::cast_slice_mut(&mut samples), header, &mut steps)?;
        Samples::Sixteen(samples)
    } else {
        let mut samples = vec![0_u8; len];
        frame(&mut decoder, input, &mut samples, header, &mut steps)?;
        Samples::Eight(samples)
    };
    let orientation =
        Orientation::from_exif(info.orientation as u8).unwrap_or(Orientation::NoTransforms);
    Ok(Raster { width, height, layout, samples, icc, orientation })
}

fn options(sample_limit: Option<usize>) -> JxlDecoderOptions {
    let mut options = JxlDecoderOptions::default();
    options.adjust_orientation = false;
    options.alpha_mode = AlphaMode::Unpremultiplied;
    options.sample_limit = sample_limit;
    options.max_profile_level = ProfileLevel::Main10;
    options
}

fn basic_info(decoder: &mut JxlDecoder, input: &mut &[u8]) -> Result<JxlBasicInfo, DecodeError> {
    let ends_early = || DecodeError::truncated(FORMAT, "its header is incomplete");
    match decoder.process(input, None, None).map_err(|error| classify(&error))? {
        Event::BasicInfo => decoder.basic_info().cloned().ok_or_else(ends_early),
        _ => Err(ends_early()),
    }
}

fn layout(decoder: &JxlDecoder, info: &JxlBasicInfo) -> Result<Layout, DecodeError> {
    let profile = decoder.embedded_color_profile();
    let is_grey = profile.is_some_and(|profile| profile.channels() == 1);
    if profile.is_some_and(JxlColorProfile::is_cmyk) {
        return Err(DecodeError::unsupported(FORMAT, "it has CMYK colours"));
    }
    let has_alpha = info.extra_channels.iter().any(|extra| extra.ec_type == ExtraChannel::Alpha);
    Ok(match (is_grey, has_alpha) {
        (true, false) => Layout::Gray,
        (true, true) => Layout::GrayAlpha,
        (false, false) => Layout::Rgb,
        (false, true) => Layout::Rgba,
    })
}

/// Returns the profile of the decoded colours, or `None` if they are those of sRGB.
fn icc(decoder: &JxlDecoder) -> Result<Option<Vec<u8>>, DecodeError> {
    let Some(profile) = decoder.output_color_profile() else {
        return Ok(None);
    };
    let hdr = |function: &str| {
        Err(DecodeError::unsupported(FORMAT, &format!("it has high dynamic range ({function})")))
    };
    match profile.transfer_function() {
        Some(JxlTransferFunction::PQ) => return hdr("PQ"),
        Some(JxlTransferFunction::HLG) => return hdr("HLG"),
        _ => {}
    }
    let is_srgb = match profile {
        JxlColorProfile::Simple(JxlColorEncoding::RgbColorSpace {
            white_point,
            primaries,
            transfer_function,
            ..
        }) => {
            *white_point == JxlWhitePoint::D65
                && *primaries == JxlPrimaries::SRGB
                && is_srgb_transfer(transfer_function)
        }
        JxlColorProfile::Simple(JxlColorEncoding::GrayscaleColorSpace {
            white_point,
            transfer_function,
            ..
        }) => *white_point == JxlWhitePoint::D65 && is_srgb_transfer(transfer_function),
        _ => false,
    };
    if is_srgb {
        return Ok(None);
    }
    Ok(profile.try_as_icc().map(Cow::into_owned))
}

/// Returns true for sRGB and for video, which is made for the same screens.
fn is_srgb_transfer(function: &JxlTransferFunction) -> bool {
    matches!(function, JxlTransferFunction::SRGB | JxlTransferFunction::BT709)
}

/// Decodes the next frame that is shown into the buffer.
fn frame(
    decoder: &mut JxlDecoder,
    mut input: &[u8],
    buffer: &mut [u8],
    header: Header,
    steps: &mut Steps,
) -> Result<(), DecodeError> {
    let rows = header.height as usize;
    let row_len = buffer.len() / rows;
    loop {
        let output = JxlOutputBuffer::new(buffer, rows, row_len);
        let event = decoder.process(&mut input, Some(&mut [output]), Some(steps));
        match event.map_err(|error| classify(&error))? {
            Event::FrameComplete { .. } => return Ok(()),
            Event::BasicInfo | Event::FrameHeader => {}
            Event::NeedMoreInput { .. } => {
                return Err(DecodeError::truncated(FORMAT, "its data ends early"));
            }
            Event::Complete => return Err(DecodeError::corrupt(FORMAT, "it has no frame")),
        }
    }
}

/// Runs the decoder on this thread, and ends it if it takes more steps than the size explains:
/// frames that are not shown cost a few bytes each.
struct Steps {
    left: u64,
}

impl Steps {
    fn of(header: Header) -> Self {
        let groups = |side: u32| u64::from(side.div_ceil(GROUP_SIDE));
        let groups = groups(header.width) * groups(header.height);
        Self { left: groups * STEPS_PER_GROUP + 4 * STEPS_PER_GROUP }
    }
}

impl JxlParallelRunner for Steps {
    fn run(&mut self, count: usize, work: &JxlParallelRunnerFun<'_>) -> Result<(), Error> {
        for index in 0..count {
            self.left = self.left.checked_sub(1).ok_or(Error::ApiUsageError(NO_STEPS_LEFT))?;
            work(index)?;
        }
        Ok(())
    }

    fn num_threads(&self) -> usize {
        1
    }

    fn run_ordered(
        &mut self,
        count: usize,
        _: Option<usize>,
        work: &JxlParallelRunnerFun<'_>,
    ) -> Result<(), Error> {
        self.run(count, work)
    }
}

fn classify(error: &Error) -> DecodeError {
    match error {
        Error::UnexpectedCodestreamBoxEnd | Error::OutOfBounds(_) => {
            DecodeError::truncated(FORMAT, "its data ends early")
        }
        Error::ImageSizeTooLarge(..)
        | Error::OutOfMemory(_)
        | Error::ImageOutOfMemory(..)
        | Error::ApiUsageError(NO_STEPS_LEFT) => {
            DecodeError::corrupt(FORMAT, "it needs more memory or time than its size explains")
        }
        Error::LevelLimitExceeded { .. } | Error::PatchesUnsupportedMixedUpsampling(..) => {
            DecodeError::unsupported(FORMAT, &error.to_string())
        }
        error => DecodeError::corrupt(FORMAT, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_takes_more_steps_than_its_size_explains_is_ended() {
        let mut steps = Steps::of(Header { format: FORMAT, width: 1, height: 1 });
        let honest = usize::try_from(steps.left).unwrap();
        assert!(steps.run(honest, &|_| Ok(())).is_ok());
        let error = classify(&steps.run(1, &|_| Ok(())).unwrap_err());
        assert_eq!(error.code(), "decode.corrupt", "{error}");
    }
}
