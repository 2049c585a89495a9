//! Maps the errors of the `tiff` crate.

use tiff::TiffError;

use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

pub(crate) const FORMAT: ImageFormat = ImageFormat::Tiff;

pub(crate) fn classify(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) => DecodeError::from_read(FORMAT, &error),
        TiffError::UnsupportedError(error) => DecodeError::unsupported(FORMAT, &error.to_string()),
        TiffError::LimitsExceeded => too_large_inside(),
        other => DecodeError::corrupt(FORMAT, &other.to_string()),
    }
}

pub(crate) fn too_large_inside() -> DecodeError {
    DecodeError::corrupt(FORMAT, "it needs more memory than its size explains")
}
