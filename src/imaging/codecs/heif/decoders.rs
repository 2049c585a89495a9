//! Decodes a coded picture with the decoder of its coding, and checks the result.

#[cfg(feature = "avif")]
use crate::imaging::codecs::heif::av1;
use crate::imaging::codecs::heif::coded::{BLOCK, Coded, Coding, Form};
#[cfg(feature = "heic")]
use crate::imaging::codecs::heif::hevc;
use crate::imaging::codecs::heif::planes::Planes;
use crate::imaging::error::DecodeError;

/// Decodes the picture.
pub(crate) fn decode(coded: &Coded<'_>) -> Result<Planes, DecodeError> {
    let planes = match coded.coding {
        #[cfg(feature = "heic")]
        Coding::Hevc => hevc::decode(coded)?,
        #[cfg(feature = "avif")]
        Coding::Av1 => av1::decode(coded)?,
    };
    let fits = |decoded: u32, claimed: u32| (claimed..claimed + BLOCK).contains(&decoded);
    if !fits(planes.width, coded.width) || !fits(planes.height, coded.height) {
        return Err(coded.wrong_size());
    }
    if !(8..=12).contains(&planes.depth) {
        let feature = format!("it has {} bits per sample", planes.depth);
        return Err(DecodeError::unsupported(coded.format, &feature));
    }
    Ok(planes)
}

/// Reads the form of the samples from the configuration of the decoder.
pub(crate) fn form(coded: &Coded<'_>) -> Result<Form, DecodeError> {
    let form = match coded.coding {
        #[cfg(feature = "heic")]
        Coding::Hevc => hevc::form(coded.configuration),
        #[cfg(feature = "avif")]
        Coding::Av1 => av1::form(coded.configuration),
    };
    form.ok_or_else(|| {
        DecodeError::corrupt(coded.format, "the configuration of its decoder is damaged")
    })
}
