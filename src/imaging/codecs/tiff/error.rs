//! Maps the errors of the `tiff` crate.

use tiff::tags::CompressionMethod;
use tiff::{TiffError, TiffUnsupportedError};

use crate::imaging::codecs::image_crate::plain;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

pub(crate) const FORMAT: ImageFormat = ImageFormat::Tiff;

pub(crate) fn classify(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) => DecodeError::from_read(FORMAT, &error),
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedCompressionMethod(method)) => {
            let feature = format!("its compression, {}, is not supported", name_of(method));
            DecodeError::unsupported(FORMAT, &feature)
        }
        TiffError::UnsupportedError(error) => {
            let message = error.to_string();
            DecodeError::unsupported(FORMAT, plain(&message, "it has samples of a rare kind"))
        }
        TiffError::LimitsExceeded => too_large_inside(),
        other => {
            let message = other.to_string();
            DecodeError::corrupt(FORMAT, plain(&message, "its data contradicts the format"))
        }
    }
}

pub(crate) fn too_large_inside() -> DecodeError {
    DecodeError::corrupt(FORMAT, "it needs more memory than its size explains")
}

/// Returns the name of a compression.
fn name_of(method: CompressionMethod) -> String {
    let number = method.to_u16();
    let name = match number {
        2..=4 | 32_771 => "that of fax machines",
        6 => "the old form of JPEG",
        34_661 => "JBIG",
        34_712 => "JPEG 2000",
        34_887 => "LERC",
        34_892 => "lossy JPEG of raw images",
        34_925 => "LZMA",
        50_001 => "WebP",
        50_002 => "JPEG XL",
        _ => return format!("number {number}"),
    };
    name.to_owned()
}
