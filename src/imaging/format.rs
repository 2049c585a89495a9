//! The image formats that can be decoded.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An image format, detected from the content and never from a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// JPEG, baseline and progressive.
    Jpeg,
    /// PNG. For an animation, the default image.
    Png,
    /// WebP, lossy and lossless. For an animation, the first frame.
    WebP,
    /// GIF. For an animation, the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF. For several pages, the first.
    Tiff,
    /// Raw pixels that an embedder passed in; never a file.
    Rgb,
}

impl ImageFormat {
    /// Returns the lower-case name, as written to events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
            Self::Rgb => "rgb",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
