//! The level that a generated answer names, as the authors' program reads it.
//!
//! Source: `sjtuzzq/Dog-IQA`, commit `9eb4120`. It takes the first character of the stripped text
//! as a number, without limits; any other character is level 1. An empty text stops it; here it is
//! level 1 too, and the answer says so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Level of an answer that is not a number.
const LEVEL_WITHOUT_NUMBER: u8 = 1;

/// First full-width digit, as in Chinese and Japanese text.
const FULL_WIDTH_ZERO: u32 = 0xff10;

/// The kind of a generated answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerKind {
    /// It begins with a digit, which is the level: 0 to 9.
    Number,
    /// It begins with another character. The level is 1.
    NotANumber,
    /// It has no text, which stops the authors' program. The level is 1.
    Empty,
}

/// The first token of a generated answer, and the level that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedAnswer {
    text: String,
    kind: AnswerKind,
    level: u8,
}

impl GeneratedAnswer {
    /// Reads the text of an answer, without special tokens.
    pub fn new(text: String) -> Self {
        let first = text.trim_start_matches(is_space).chars().next();
        let (kind, level) = match first.map(digit) {
            Some(Some(level)) => (AnswerKind::Number, level),
            Some(None) => (AnswerKind::NotANumber, LEVEL_WITHOUT_NUMBER),
            None => (AnswerKind::Empty, LEVEL_WITHOUT_NUMBER),
        };
        Self { text, kind, level }
    }

    /// Returns the text as generated.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the kind.
    pub fn kind(&self) -> AnswerKind {
        self.kind
    }

    /// Returns the level, 0 to 9. It may be 0 or above K.
    pub fn level(&self) -> u8 {
        self.level
    }
}

/// Returns true for white space of Python's `str.strip`, which includes four separators that
/// Unicode does not count.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Returns the value of an ASCII or full-width digit. A vocabulary has no other decimal digit as a
/// token of its own.
fn digit(character: char) -> Option<u8> {
    let value = match u32::from(character) {
        code @ 0x30..=0x39 => code - 0x30,
        code @ FULL_WIDTH_ZERO..=0xff19 => code - FULL_WIDTH_ZERO,
        _ => return None,
    };
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_character_is_the_level_without_limits() {
        for (text, level) in [("0", 0), ("7", 7), ("9", 9), (" 85", 8), ("４２", 4), ("3.5", 3)] {
            let answer = GeneratedAnswer::new(text.to_owned());
            assert_eq!((answer.kind(), answer.level()), (AnswerKind::Number, level), "{text}");
        }
    }

    #[test]
    fn a_word_instead_of_a_number_is_level_1() {
        for text in ["The", "-3", "²", "五", "\u{fffd}"] {
            let answer = GeneratedAnswer::new(text.to_owned());
            assert_eq!((answer.kind(), answer.level()), (AnswerKind::NotANumber, 1), "{text}");
        }
    }

    #[test]
    fn an_answer_without_text_is_level_1_and_says_so() {
        for text in ["", " ", "\n\t", "\u{1c}", "\u{3000}"] {
            let answer = GeneratedAnswer::new(text.to_owned());
            assert_eq!((answer.kind(), answer.level()), (AnswerKind::Empty, 1), "{text:?}");
            assert_eq!(answer.text(), text);
        }
    }
}
