//! Decodes a whole JPEG file with `zune-jpeg` in strict mode.

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::{ZByteIoError, ZCursor};
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::imaging::buffer_pool;
use crate::imaging::codecs::jpeg::structure::{AdobeSegment, Structure};
use crate::imaging::codecs::ycbcr::rgb_from_ycbcr;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::{Layout, Raster, Samples};

const FORMAT: ImageFormat = ImageFormat::Jpeg;

/// Decodes a whole JPEG file.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let Header { width, height, .. } = header;
    let structure = Structure::read(bytes)?;
    let image = structure.image(bytes)?;

    // Strict mode: otherwise undecodable data becomes grey.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(image.as_ref()), options);
    decoder.decode_headers().map_err(|error| classify(&error))?;
    if decoder.dimensions() != Some((width as usize, height as usize)) {
        return Err(DecodeError::corrupt(FORMAT, "its headers disagree about its size"));
    }

    let stored = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    let wanted = match (structure.adobe, stored) {
        // The samples already are RGB; YCbCr makes the decoder return them unconverted.
        (AdobeSegment::MeansRgb, _) => ColorSpace::YCbCr,
        (_, ColorSpace::Luma | ColorSpace::CMYK | ColorSpace::YCCK) => stored,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let len = width as usize * height as usize * wanted.num_components();
    let mut samples = buffer_pool::zeroed(len);
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
        samples: Samples::Eight(ink_amounts(samples, wanted, structure.adobe)),
        icc: decoder.icc_profile(),
        orientation,
    })
}

/// Converts stored CMYK and YCCK samples to ink amounts, 255 for full ink. Leaves others unchanged.
fn ink_amounts(mut samples: Vec<u8>, stored: ColorSpace, adobe: AdobeSegment) -> Vec<u8> {
    if stored == ColorSpace::YCCK {
        // Luma and chroma encode the inverse of the stored inks, and those are inverted too.
        for pixel in samples.as_chunks_mut::<4>().0 {
            let [y, cb, cr, k] = *pixel;
            let [c, m, y] = rgb_from_ycbcr([y, cb, cr]);
            *pixel = [c, m, y, 255 - k];
        }
    } else if stored == ColorSpace::CMYK && adobe == AdobeSegment::InvertsInks {
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
