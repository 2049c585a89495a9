//! A reason: a code, its strength, and the part of the picture that it holds for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A distortion that lowers the quality of a picture.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Nothing is sharp, in any direction.
    Blurred,
    /// Detail is missing along one direction.
    MotionBlurred,
    /// The subject is blurred and its background is sharp.
    OutOfFocusSubject,
    /// Grain on flat areas.
    Noisy,
    /// The 8 × 8 blocks of strong JPEG compression.
    Compressed,
    /// Under-exposed: nothing is bright.
    TooDark,
    /// Over-exposed: nothing is dark.
    TooBright,
    /// Black and white are close to each other.
    LowContrast,
    /// Few pixels.
    LowResolution,
    /// Enlarged by interpolation or by repeated pixels.
    Upscaled,
    /// Bars of a single colour along the edges.
    Borders,
    /// Nearly a single colour.
    MonochromeFlat,
}

impl ReasonCode {
    /// All codes, in the order in which they are listed.
    pub const ALL: [Self; 12] = [
        Self::Blurred,
        Self::MotionBlurred,
        Self::OutOfFocusSubject,
        Self::Noisy,
        Self::Compressed,
        Self::TooDark,
        Self::TooBright,
        Self::LowContrast,
        Self::LowResolution,
        Self::Upscaled,
        Self::Borders,
        Self::MonochromeFlat,
    ];

    /// Finds a code by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Returns the code as it is written in events and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blurred => "blurred",
            Self::MotionBlurred => "motion_blurred",
            Self::OutOfFocusSubject => "out_of_focus_subject",
            Self::Noisy => "noisy",
            Self::Compressed => "compressed",
            Self::TooDark => "too_dark",
            Self::TooBright => "too_bright",
            Self::LowContrast => "low_contrast",
            Self::LowResolution => "low_resolution",
            Self::Upscaled => "upscaled",
            Self::Borders => "borders",
            Self::MonochromeFlat => "monochrome_flat",
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The part of a picture that a reason holds for. Its JSON form is `"image"` or the index of a
/// region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scope {
    /// The whole picture.
    Image(WholeImage),
    /// The region with this index in its segmentation.
    Region(u32),
}

/// The word for the whole picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WholeImage {
    /// The whole picture.
    Image,
}

impl Scope {
    /// The whole picture.
    pub const IMAGE: Self = Self::Image(WholeImage::Image);
}

/// A reason for the quality of a picture or of a region.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// The distortion.
    pub code: ReasonCode,
    /// Strength in 0..=1, with four decimals: grows with the distortion; 1/2 is clearly visible.
    pub strength: f64,
    /// The whole picture, or a region.
    pub scope: Scope,
}
