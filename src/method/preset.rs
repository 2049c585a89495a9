//! Rows of the paper's Table 4, by name.

use serde::{Deserialize, Serialize};

/// A row of the paper's Table 4: it fixes the standard, what of a region is rated, whether the whole image and
/// the number of masks count, and how areas do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The best: boxes and the whole image, words, area, the number of masks.
    Paper,
    /// Without the whole image.
    PaperBoxes,
    /// Boxes, without the number of masks.
    PaperNoSeg,
    /// The whole image alone.
    PaperWhole,
    /// Boxes with all but the mask in black.
    PaperMask,
    /// Boxes that count alike, whatever their area.
    PaperMean,
    /// Boxes, and a sentence for each level.
    PaperSentence,
    /// Boxes, and levels without words.
    PaperNumber,
}

impl Preset {
    /// All of them, the best first.
    pub const ALL: [Self; 8] = [
        Self::Paper,
        Self::PaperBoxes,
        Self::PaperNoSeg,
        Self::PaperWhole,
        Self::PaperMask,
        Self::PaperMean,
        Self::PaperSentence,
        Self::PaperNumber,
    ];

    /// As it is written in configuration and events.
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
        }
    }
}
