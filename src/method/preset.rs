//! Presets by name: rows of the paper's Table 4, and the authors' program.

use serde::{Deserialize, Serialize};

/// A row of the paper's Table 4, which fixes the standard, the crop mode, the terms of the score
/// and the weights of the regions; or the authors' program, which fixes everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The best row: boxes and the whole image, words, weights by area, the number of masks.
    Paper,
    /// The best row without the whole image.
    PaperBoxes,
    /// `PaperBoxes` without the number of masks.
    PaperNoSeg,
    /// The whole image alone.
    PaperWhole,
    /// `PaperBoxes` with black outside the mask.
    PaperMask,
    /// `PaperBoxes` with equal weights.
    PaperMean,
    /// `PaperBoxes` with a sentence per level.
    PaperSentence,
    /// `PaperBoxes` with levels without words.
    PaperNumber,
    /// The authors' program: models, reading, prompt, regions and formula.
    Release,
    /// `Release` with the formula of the script behind the authors' tables.
    ReleaseTables,
}

impl Preset {
    /// All presets, the paper's best row first.
    pub const ALL: [Self; 10] = [
        Self::Paper,
        Self::PaperBoxes,
        Self::PaperNoSeg,
        Self::PaperWhole,
        Self::PaperMask,
        Self::PaperMean,
        Self::PaperSentence,
        Self::PaperNumber,
        Self::Release,
        Self::ReleaseTables,
    ];

    /// Returns the name in configuration and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::PaperBoxes => "paper-boxes",
            Self::PaperNoSeg => "paper-no-seg",
            Self::PaperWhole => "paper-whole",
            Self::PaperMask => "paper-mask",
            Self::PaperMean => "paper-mean",
            Self::PaperSentence => "paper-sentence",
            Self::PaperNumber => "paper-number",
            Self::Release => "release",
            Self::ReleaseTables => "release-tables",
        }
    }
}
