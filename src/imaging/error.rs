//! The reasons why bytes do not become a picture.

use std::any::Any;
use std::io;

use crate::imaging::format::ImageFormat;

/// Maximum length of a decoder's message in an error. Some decoders quote the file's content.
const DETAIL_CHARS_MAX: usize = 200;

/// An image that cannot be decoded. Never transient: the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The file has no bytes.
    #[error("image has 0 bytes; check that its upload was completed")]
    Empty,
    /// The content is not an image, or an image of an unsupported format.
    #[error("content is {found}; send {}", ImageFormat::LISTED)]
    UnsupportedFormat {
        /// Best guess at the content.
        found: &'static str,
    },
    /// The format is supported, but the image uses a feature that is not.
    #[error("{format} image cannot be decoded: {feature}; convert it to plain jpeg or png")]
    UnsupportedFeature {
        /// Format of the image.
        format: ImageFormat,
        /// The feature, as the decoder describes it.
        feature: String,
    },
    /// The image exceeds the limits on pixels.
    #[error(
        "image is {width}×{height} px, the limits are {megapixels} MP and {side_max_px} px a side; \
         raise imaging.pixels_max and imaging.side_max_px or resize upstream",
        megapixels = *pixels_max as f64 / 1e6
    )]
    TooLarge {
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// Limit on the number of pixels.
        pixels_max: u64,
        /// Limit on either side in pixels.
        side_max_px: u32,
    },
    /// The image has more pixels than so few bytes may have.
    #[error(
        "{format} image claims {width}×{height} px in {bytes_len} bytes, the limit is {megapixels} MP \
         for so few; resize it upstream",
        megapixels = *pixels_max as f64 / 1e6
    )]
    TooSparse {
        /// Format of the image.
        format: ImageFormat,
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// Length of the file.
        bytes_len: u64,
        /// Limit on the number of pixels of a file of this length.
        pixels_max: u64,
    },
    /// The image is stored in more scans than its size and its data explain.
    #[error(
        "{format} image has more scans than {width}×{height} px and {bytes_len} bytes explain; \
         save it with fewer scans"
    )]
    TooManyScans {
        /// Format of the image.
        format: ImageFormat,
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// Length of the file.
        bytes_len: u64,
    },
    /// The file ends before the image does.
    #[error("{format} image is cut off: {detail}; upload it again")]
    Truncated {
        /// Format of the image.
        format: ImageFormat,
        /// The missing part.
        detail: String,
    },
    /// The bytes violate the format.
    #[error("{format} image is damaged: {detail}; export it again")]
    Corrupt {
        /// Format of the image.
        format: ImageFormat,
        /// The violation, as the decoder describes it.
        detail: String,
    },
    /// The decoder panicked.
    #[error("the {format} decoder panicked: {message}; please report the image as a bug")]
    Panicked {
        /// Format of the image.
        format: ImageFormat,
        /// Message of the panic.
        message: String,
    },
}

impl DecodeError {
    /// Returns the stable error code, as in dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "decode.empty",
            Self::UnsupportedFormat { .. } => "decode.unsupported_format",
            Self::UnsupportedFeature { .. } => "decode.unsupported_feature",
            Self::TooLarge { .. } | Self::TooSparse { .. } | Self::TooManyScans { .. } => {
                "decode.too_large"
            }
            Self::Truncated { .. } => "decode.truncated",
            Self::Corrupt { .. } => "decode.corrupt",
            Self::Panicked { .. } => "decode.panicked",
        }
    }

    pub(crate) fn unsupported(format: ImageFormat, feature: &str) -> Self {
        Self::UnsupportedFeature { format, feature: one_line(feature) }
    }

    pub(crate) fn truncated(format: ImageFormat, detail: &str) -> Self {
        Self::Truncated { format, detail: one_line(detail) }
    }

    pub(crate) fn corrupt(format: ImageFormat, detail: &str) -> Self {
        Self::Corrupt { format, detail: one_line(detail) }
    }

    /// Maps an I/O error of a decoder that reads from memory: usually the end of the bytes.
    pub(crate) fn from_read(format: ImageFormat, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::truncated(format, "its data ends early"),
            _ => Self::corrupt(format, &error.to_string()),
        }
    }

    pub(crate) fn from_panic(format: ImageFormat, panic: &(dyn Any + Send)) -> Self {
        let message = if let Some(message) = panic.downcast_ref::<&str>() {
            one_line(message)
        } else if let Some(message) = panic.downcast_ref::<String>() {
            one_line(message)
        } else {
            "no message".to_owned()
        };
        Self::Panicked { format, message }
    }
}

/// Makes a decoder's message safe to log: no control characters, at most [`DETAIL_CHARS_MAX`].
fn one_line(message: &str) -> String {
    let characters = message.trim().chars().take(DETAIL_CHARS_MAX);
    characters.map(|character| if character.is_control() { ' ' } else { character }).collect()
}
