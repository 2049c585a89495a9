//! Settings of the ratings.

use serde::{Deserialize, Serialize};

use crate::models::clip_iqa::prompts::Pairs;

/// The smallest limit of an image's area, in pixels: the side of the network's training squared.
pub const PIXELS_MIN: u32 = 224 * 224;
/// The largest limit of an image's area, in pixels.
pub const PIXELS_MAX: u32 = 1 << 26;

/// Settings of the ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipIqaSettings {
    /// The pairs of opposite prompts that an image is compared with: `paper` (good or bad photo),
    /// or `iqa-pytorch`, the five pairs of IQA-PyTorch. Do not compare scores of the two.
    pub pairs: Pairs,
    /// Largest area in pixels; a larger image is reduced, a smaller one is rated at its full
    /// resolution. 50,176 to 67,108,864. Cost and memory grow with it: 256 bytes for each pixel. A
    /// ViT reads 224 × 224 pixels of every image.
    pub pixels_max: u32,
    /// Adds four properties to every rating, at no cost: the probability that the picture is
    /// bright rather than dark, sharp rather than blurry, clean rather than noisy, and colourful
    /// rather than dull, by the paper's prompts. They do not affect the score.
    pub attributes: bool,
}

impl Default for ClipIqaSettings {
    fn default() -> Self {
        Self { pairs: Pairs::default(), pixels_max: 1 << 22, attributes: false }
    }
}

impl ClipIqaSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Returns the sentence to show, with the setting and its range.
    pub fn check(&self) -> Result<(), String> {
        if (PIXELS_MIN..=PIXELS_MAX).contains(&self.pixels_max) {
            return Ok(());
        }
        let found = self.pixels_max;
        Err(format!("pixels_max is {found}; it must be in {PIXELS_MIN}..={PIXELS_MAX}"))
    }
}
