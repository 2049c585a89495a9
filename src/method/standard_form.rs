//! The forms in which a prompt explains the levels.

use serde::{Deserialize, Serialize};

/// The explanation of the levels in the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StandardForm {
    /// Only the range of numbers.
    Number,
    /// One word per level; best in the paper.
    Word,
    /// One sentence per level.
    Sentence,
    /// A number from 0 to 100 with one decimal; only in the wording of the authors' program.
    NumberDecimal,
    /// Words without numbers; only in the wording of the authors' program, where every answer is
    /// level 1.
    WordOnly,
}

impl StandardForm {
    /// Returns the name in configuration and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Word => "word",
            Self::Sentence => "sentence",
            Self::NumberDecimal => "number-decimal",
            Self::WordOnly => "word-only",
        }
    }
}
