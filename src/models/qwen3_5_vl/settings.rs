//! Settings of the ratings.

use serde::{Deserialize, Serialize};

use crate::models::qwen3_5_vl::processor::{AREA_MAX, SizeRule};

/// The question about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Its technical quality.
    #[default]
    Quality,
    /// Its aesthetics.
    Aesthetics,
}

/// The words of a question. The published programs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wording {
    /// The model cards' words; for aesthetics, which they do not ask for, those of pyiqa.
    #[default]
    Card,
    /// Those of pyiqa.
    Pyiqa,
    /// Those of the authors' own scorer.
    Toolkit,
}

/// The block of thoughts before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    /// Empty and closed, as in training.
    #[default]
    Closed,
    /// Opened only, as the template of the larger models does by default.
    Open,
}

/// Settings of the ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QRealignSettings {
    /// Asks for `quality` or `aesthetics`.
    pub question: Question,
    /// The words of the question: `card`, those of the model cards, `pyiqa`, or `toolkit`, those of
    /// the authors' own scorer. Scores differ by a few hundredths, so do not compare those of two.
    pub wording: Wording,
    /// The block of thoughts before the answer: `closed`, as in training, or `open`, as the model
    /// cards' program leaves it for the 4B and 9B networks. Change it only to reproduce their
    /// scores.
    pub thinking: Thinking,
    /// Limits of an image's area: `hub`, which enlarges images below 65,536 pixels, or `train`,
    /// which enlarges those below 4,096, as the authors' own scorer does.
    pub sizes: SizeRule,
    /// Largest area in pixels; a larger image is reduced. 65,536 to 16,777,216, the published
    /// limit. Cost and memory grow with it: 1,048,576 pixels are 1,024 tokens.
    pub pixels_max: u32,
}

impl Default for QRealignSettings {
    fn default() -> Self {
        Self {
            question: Question::default(),
            wording: Wording::default(),
            thinking: Thinking::default(),
            sizes: SizeRule::default(),
            pixels_max: 1 << 20,
        }
    }
}

impl QRealignSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Returns the sentence to show, with the setting and its range.
    pub fn check(&self) -> Result<(), String> {
        let least = SizeRule::Hub.area_min();
        if (least..=AREA_MAX).contains(&self.pixels_max) {
            return Ok(());
        }
        Err(format!("pixels_max is {}; it must be in {least}..={AREA_MAX}", self.pixels_max))
    }
}
