//! The tokens of an answer that name a level of the standard.
//!
//! The prompt asks for a number, so a digit is a level. Some models answer with the standard's word
//! instead, of which a token may be only the beginning: `Ex` of `Excellent`.

use crate::method::Standard;

/// Shortest beginning of a word that counts. A single letter is more often another answer.
const PREFIX_CHARS_MIN: usize = 2;
/// First full-width digit, as in Chinese and Japanese text.
const FULL_WIDTH_ZERO: u32 = 0xff10;

/// Finds levels in tokens.
#[derive(Debug, Clone)]
pub(crate) struct LevelTokens {
    /// One per level, from the worst to the best, in lower case.
    words: Vec<String>,
}

impl LevelTokens {
    pub(crate) fn new(standard: &Standard) -> Self {
        let word = |level| standard.word(level).to_lowercase();
        Self { words: (1..=standard.k()).map(word).collect() }
    }

    /// Returns the number of levels.
    pub(crate) fn levels(&self) -> usize {
        self.words.len()
    }

    /// Returns the level that a token names, from 1, or `None`. White space around the token and
    /// case do not count. A word counts from two letters on if only one level begins with them.
    pub(crate) fn level_of(&self, token: &str) -> Option<usize> {
        let token = token.trim_matches(is_space);
        let mut characters = token.chars();
        if let (Some(first), None) = (characters.next(), characters.next())
            && let Some(level) = digit(first)
        {
            return (1..=self.words.len()).contains(&level).then_some(level);
        }
        let token = token.to_lowercase();
        if let Some(index) = self.words.iter().position(|word| *word == token) {
            return Some(index + 1);
        }
        if token.chars().count() < PREFIX_CHARS_MIN {
            return None;
        }
        let begins = |(_, word): &(usize, &String)| word.starts_with(&token);
        let mut found = self.words.iter().enumerate().filter(begins);
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Some(index + 1),
            _ => None,
        }
    }

    /// Returns the level of a whole answer, which may end with punctuation.
    pub(crate) fn level_of_answer(&self, answer: &str) -> Option<usize> {
        let is_end = |c: char| is_space(c) || c.is_ascii_punctuation();
        self.level_of(answer.trim_end_matches(is_end))
    }
}

/// Returns true for white space, and for the marks by which tokenizers write it.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{2581}' | '\u{120}' | '\u{10a}')
}

/// Returns the value of an ASCII or full-width digit.
fn digit(character: char) -> Option<usize> {
    match u32::from(character) {
        code @ 0x30..=0x39 => usize::try_from(code - 0x30).ok(),
        code @ FULL_WIDTH_ZERO..=0xff19 => usize::try_from(code - FULL_WIDTH_ZERO).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{CustomStandard, StandardForm, StandardSettings};

    fn levels(k: u8) -> LevelTokens {
        LevelTokens::new(&Standard::builtin(k, StandardForm::Word).unwrap())
    }

    #[test]
    fn digits_words_and_unique_beginnings_are_levels() {
        let tokens = levels(7);
        for (token, level) in [
            ("5", 5),
            (" 5", 5),
            ("\u{2581}7", 7),
            ("\u{120}1", 1),
            ("３", 3),
            ("Good", 5),
            (" good", 5),
            ("PERFECT", 7),
            ("Ex", 6),
            (" excell", 6),
            ("Per", 7),
            ("Po", 2),
            ("Bad", 3),
            ("Very", 1),
            ("Very Bad", 1),
        ] {
            assert_eq!(tokens.level_of(token), Some(level), "{token:?}");
        }
    }

    #[test]
    fn other_tokens_are_no_level() {
        let tokens = levels(7);
        for token in [
            "", " ", "0", "8", "9", "10", "75", "5.", "-5", "P", "E", "B", "The", "<think>",
            "Goods",
        ] {
            assert_eq!(tokens.level_of(token), None, "{token:?}");
        }
        assert_eq!(levels(9).level_of("9"), Some(9));
        assert_eq!(levels(3).level_of("4"), None);
    }

    #[test]
    fn a_beginning_that_two_levels_share_is_no_level_and_a_whole_word_is_one() {
        let own = CustomStandard {
            name: "blur".to_owned(),
            words: ["Sharp", "Sharper", "Sharpest"].map(str::to_owned).into(),
            sentences: Vec::new(),
        };
        let settings =
            StandardSettings { levels: 3, own: Some(own), ..StandardSettings::default() };
        let tokens = LevelTokens::new(&Standard::from_settings(&settings).unwrap());
        assert_eq!(tokens.level_of("Sha"), None);
        assert_eq!(tokens.level_of("Sharp"), Some(1));
        assert_eq!(tokens.level_of("sharpes"), Some(3));
    }

    #[test]
    fn an_answer_may_end_with_punctuation() {
        let tokens = levels(7);
        for (answer, level) in
            [("5.", Some(5)), (" Good!\n", Some(5)), ("", None), ("5 of 7", None)]
        {
            assert_eq!(tokens.level_of_answer(answer), level, "{answer:?}");
        }
    }
}
