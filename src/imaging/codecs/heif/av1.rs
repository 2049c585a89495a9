//! AV1 pictures, decoded with `re_rav1d`.
//!
//! Source of the configuration: AV1 codec ISO media file format binding, section 2.3.

use re_rav1d::{Decoder, Error, Picture, PixelLayout, Settings};

use crate::imaging::codecs::heif::av1_headers::SequenceHeader;
use crate::imaging::codecs::heif::coded::{Coded, Form};
use crate::imaging::codecs::heif::planes::{Chroma, Planes, Samples};
use crate::imaging::error::DecodeError;

/// Maximum number of attempts to get a picture from the decoder. One frame of one picture needs
/// two.
const ATTEMPTS_MAX: usize = 16;

/// Reads depth and chroma from a configuration.
pub(crate) fn form(configuration: &[u8]) -> Option<Form> {
    let bits = configuration.get(2)?;
    Some(Form { is_grey: bits & 0x10 != 0, is_deep: bits & 0x40 != 0 })
}

/// Decodes the first picture.
pub(crate) fn decode(coded: &Coded<'_>) -> Result<Planes, DecodeError> {
    let sequence = SequenceHeader::find(&coded.data).or_else(|| {
        // The configuration may have a copy of the headers after its four bytes.
        SequenceHeader::find(coded.configuration.get(4..)?)
    });
    let missing = || DecodeError::corrupt(coded.format, "a picture has no sequence header");
    let sequence = sequence.ok_or_else(missing)?;
    let pixels = u64::from(sequence.width_max) * u64::from(sequence.height_max);
    if pixels > coded.pixels_max() {
        return Err(coded.wrong_size());
    }
    let picture = picture(coded)?;
    let chroma = match picture.pixel_layout() {
        PixelLayout::I400 => Chroma::None,
        PixelLayout::I420 => Chroma::Quarter,
        PixelLayout::I422 => Chroma::Half,
        PixelLayout::I444 => Chroma::Full,
    };
    Ok(Planes {
        width: picture.width(),
        height: picture.height(),
        chroma,
        depth: u8::try_from(picture.bit_depth()).unwrap_or(u8::MAX),
        colour: sequence.colour,
        samples: Samples::Av1(picture),
    })
}

fn picture(coded: &Coded<'_>) -> Result<Picture, DecodeError> {
    let failed = |error| classify(coded, error);
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    // Checks the padding after the coded data, which is the only trace of damage in it.
    settings.set_strict_std_compliance(true);
    settings.set_operating_point(u32::from(coded.operating_point & 31));
    settings.set_frame_size_limit(u32::try_from(coded.pixels_max()).unwrap_or(u32::MAX));
    let mut decoder = Decoder::with_settings(&settings).map_err(failed)?;
    match decoder.send_data(coded.data.to_vec(), None, None, None) {
        Ok(()) | Err(Error::Again) => {}
        Err(error) => return Err(failed(error)),
    }
    for _ in 0..ATTEMPTS_MAX {
        match decoder.get_picture() {
            Ok(picture) => return Ok(picture),
            Err(Error::Again) => {}
            Err(error) => return Err(failed(error)),
        }
        match decoder.send_pending_data() {
            Ok(()) | Err(Error::Again) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(DecodeError::corrupt(coded.format, "the data of a picture has no picture"))
}

fn classify(coded: &Coded<'_>, error: Error) -> DecodeError {
    match error {
        Error::UnsupportedBitstream => DecodeError::unsupported(
            coded.format,
            "it has an AV1 picture of an unsupported profile",
        ),
        Error::NotEnoughMemory => coded.wrong_size(),
        _ => DecodeError::corrupt(coded.format, "an AV1 picture violates its coding"),
    }
}
