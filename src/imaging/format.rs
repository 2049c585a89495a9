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
    /// HEIC and other HEIF with HEVC pictures. For a sequence, the primary or first image.
    Heic,
    /// AVIF. For a sequence, the primary or first image.
    Avif,
    /// JPEG XL. For an animation, the first frame.
    Jxl,
    /// Raw pixels that an embedder passed in; never a file.
    Rgb,
}

impl ImageFormat {
    /// The formats that this build decodes, for messages.
    pub(crate) const LISTED: &str =
        match (cfg!(feature = "heic"), cfg!(feature = "avif"), cfg!(feature = "jxl")) {
            (true, true, true) => "jpeg, png, webp, gif, bmp, tiff, heic, avif or jxl",
            (true, true, false) => "jpeg, png, webp, gif, bmp, tiff, heic or avif",
            (true, false, true) => "jpeg, png, webp, gif, bmp, tiff, heic or jxl",
            (false, true, true) => "jpeg, png, webp, gif, bmp, tiff, avif or jxl",
            (true, false, false) => "jpeg, png, webp, gif, bmp, tiff or heic",
            (false, true, false) => "jpeg, png, webp, gif, bmp, tiff or avif",
            (false, false, true) => "jpeg, png, webp, gif, bmp, tiff or jxl",
            (false, false, false) => "jpeg, png, webp, gif, bmp or tiff",
        };

    /// Returns the lower-case name, as written to events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
            Self::Heic => "heic",
            Self::Avif => "avif",
            Self::Jxl => "jxl",
            Self::Rgb => "rgb",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
