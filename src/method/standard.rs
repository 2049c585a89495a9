//! The quality standard: the levels, their meaning, and the two messages of the prompt.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::method::fingerprint::{fingerprint, short};
use crate::method::levels::LEVELS_MAX;
use crate::method::standard_table;

/// Maximum length of a word or sentence of a custom standard, in bytes.
const TEXT_BYTES_MAX: usize = 400;

/// The explanation of the levels in the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StandardForm {
    /// Only the range of numbers.
    Number,
    /// One word per level; best in the paper.
    Word,
    /// One sentence per level.
    Sentence,
}

impl StandardForm {
    /// Returns the name in configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Word => "word",
            Self::Sentence => "sentence",
        }
    }
}

/// The standard by which images are rated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StandardSettings {
    /// Number of levels, K: 3, 5, 7 or 9 for a built-in standard, 2 to 9 for a custom one (`own`).
    pub levels: u8,
    /// Explanation of the levels in the prompt: `number` (only the range), `word` or `sentence`.
    pub form: StandardForm,
    /// Custom standard that replaces the built-in one.
    pub own: Option<CustomStandard>,
}

impl Default for StandardSettings {
    fn default() -> Self {
        Self { levels: 7, form: StandardForm::Word, own: None }
    }
}

/// A custom standard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomStandard {
    /// Name in events: 1 to 64 letters, digits, `-` and `_`.
    pub name: String,
    /// One word per level, from the worst to the best.
    pub words: Vec<String>,
    /// One sentence per level, from the worst to the best. Required for the form `sentence`.
    #[serde(default)]
    pub sentences: Vec<String>,
}

/// An invalid standard.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StandardError {
    /// There is no built-in standard with this many levels.
    #[error("no built-in standard has {k} levels; choose 3, 5, 7 or 9, or configure custom words")]
    Builtin {
        /// Requested number of levels.
        k: u8,
    },
    /// The number of levels is not in 2..=9.
    #[error("a standard cannot have {k} levels; choose 2 to {LEVELS_MAX}")]
    Levels {
        /// Requested number of levels.
        k: u8,
    },
    /// The name has a wrong length, or characters other than letters, digits, `-` and `_`.
    #[error("the standard's name {name:?} must be 1 to 64 letters, digits, '-' or '_'")]
    Name {
        /// Start of the name.
        name: String,
    },
    /// The number of words or sentences is not the number of levels.
    #[error("the standard has {found} {what} for {k} levels; give one for each")]
    Count {
        /// `words` or `sentences`.
        what: &'static str,
        /// Number of given texts.
        found: usize,
        /// Number of levels.
        k: u8,
    },
    /// A text is empty, too long, repeated, or has several lines.
    #[error("{what} {level} of the standard is {problem}: {text:?}")]
    Text {
        /// `words` or `sentences`.
        what: &'static str,
        /// Level, from 1.
        level: usize,
        /// Description of the problem.
        problem: &'static str,
        /// Start of the text.
        text: String,
    },
}

/// The levels 1..=K and the exact prompt for a rating.
///
/// ```
/// use dog_iqa::method::{Standard, StandardForm};
///
/// let standard = Standard::builtin(7, StandardForm::Word)?;
/// assert_eq!(standard.word(7), "Perfect");
/// assert!(standard.user_message().ends_with("score in [1, 2, 3, 4, 5, 6, 7]."));
/// # Ok::<(), dog_iqa::method::StandardError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standard {
    form: StandardForm,
    custom_name: Option<String>,
    /// One per level, from the worst to the best.
    words: Vec<String>,
    system_message: String,
    user_message: String,
}

impl Standard {
    /// Creates the custom standard of the settings, or else the built-in one.
    ///
    /// # Errors
    /// Fails as [`Standard::builtin`] and [`Standard::custom`] do.
    pub fn from_settings(settings: &StandardSettings) -> Result<Self, StandardError> {
        match &settings.own {
            Some(own) => Self::custom(settings.levels, settings.form, own),
            None => Self::builtin(settings.levels, settings.form),
        }
    }

    /// Creates the built-in standard with K = 3, 5, 7 or 9 levels. K = 7 in words is the paper's
    /// text.
    ///
    /// # Errors
    /// [`StandardError::Builtin`] for another K.
    pub fn builtin(k: u8, form: StandardForm) -> Result<Self, StandardError> {
        let table = standard_table::levels(k).ok_or(StandardError::Builtin { k })?;
        let column = |pick: fn(&(&str, &str)) -> String| table.iter().map(pick).collect::<Vec<_>>();
        let words = column(|(word, _)| (*word).to_owned());
        let sentences = column(|(_, sentence)| (*sentence).to_owned());
        Ok(Self::assemble(form, None, words, &sentences))
    }

    /// Creates a custom standard.
    ///
    /// # Errors
    /// Fails if K is not in 2..=9, or if the number of words or of required sentences is not K.
    /// Fails if a text is empty, too long, repeated or has several lines, or if the name is not a
    /// plain identifier.
    pub fn custom(k: u8, form: StandardForm, own: &CustomStandard) -> Result<Self, StandardError> {
        if !(2..=LEVELS_MAX).contains(&usize::from(k)) {
            return Err(StandardError::Levels { k });
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if own.name.is_empty() || own.name.len() > 64 || !own.name.chars().all(is_plain) {
            return Err(StandardError::Name { name: own.name.chars().take(64).collect() });
        }
        check_texts("words", k, &own.words)?;
        if form == StandardForm::Sentence || !own.sentences.is_empty() {
            check_texts("sentences", k, &own.sentences)?;
        }
        let trimmed = |texts: &[String]| texts.iter().map(|text| text.trim().to_owned()).collect();
        let sentences: Vec<String> = trimmed(&own.sentences);
        Ok(Self::assemble(form, Some(own.name.clone()), trimmed(&own.words), &sentences))
    }

    fn assemble(
        form: StandardForm,
        custom_name: Option<String>,
        words: Vec<String>,
        sentences: &[String],
    ) -> Self {
        let system_message = system_message(form, &words, sentences);
        let numbers: Vec<String> = (1..=words.len()).map(|level| level.to_string()).collect();
        let user_message = format!(
            "Please evaluate the quality of the image and score in [{}].",
            numbers.join(", ")
        );
        Self { form, custom_name, words, system_message, user_message }
    }

    /// Returns the number of levels.
    pub fn k(&self) -> u8 {
        // The constructors allow at most 9.
        u8::try_from(self.words.len()).unwrap_or(u8::MAX)
    }

    /// Returns the form of the explanations.
    pub fn form(&self) -> StandardForm {
        self.form
    }

    /// Returns the word for a level, clamped to 1..=K.
    pub fn word(&self, level: u8) -> &str {
        &self.words[usize::from(level.clamp(1, self.k())) - 1]
    }

    /// Returns the system message, exactly as the scorer receives it.
    pub fn system_message(&self) -> &str {
        &self.system_message
    }

    /// Returns the text of the user's turn, without the image.
    pub fn user_message(&self) -> &str {
        &self.user_message
    }

    /// Returns the name in events: `word-7`, or `<name>-word-5-<start of the hash>` for a custom
    /// one. The hash distinguishes different standards of the same name.
    pub fn name(&self) -> String {
        let base = format!("{}-{}", self.form.as_str(), self.words.len());
        match &self.custom_name {
            None => base,
            Some(name) => {
                format!("{name}-{base}-{}", short(&self.hash()))
            }
        }
    }

    /// Returns the SHA-256 of the words and both messages, in hexadecimal.
    pub fn hash(&self) -> String {
        fingerprint(self.words.iter().chain([&self.system_message, &self.user_message]))
    }
}

fn system_message(form: StandardForm, words: &[String], sentences: &[String]) -> String {
    let listed = |texts: &[String], between: &str| {
        let numbered = texts.iter().enumerate().rev();
        let lines: Vec<_> =
            numbered.map(|(index, text)| format!("{}: {text}", index + 1)).collect();
        lines.join(between)
    };
    let k = words.len();
    let explained = match form {
        StandardForm::Number => format!("The score ranges from 1 to {k}."),
        StandardForm::Word => explain(&format!("{}.", listed(words, ", "))),
        StandardForm::Sentence => explain(&listed(sentences, " ")),
    };
    format!(
        "You are a helpful assistant to evaluate image quality. {explained} \
         The higher the image quality is, the higher the score should be."
    )
}

fn explain(levels: &str) -> String {
    format!(
        "You will be given standards for each quality level. \
         The quality standard is listed as follows: {levels}"
    )
}

fn check_texts(what: &'static str, k: u8, texts: &[String]) -> Result<(), StandardError> {
    if texts.len() != usize::from(k) {
        return Err(StandardError::Count { what, found: texts.len(), k });
    }
    for (index, text) in texts.iter().enumerate() {
        let problem = if text.trim().is_empty() {
            "empty"
        } else if text.len() > TEXT_BYTES_MAX {
            "longer than 400 bytes"
        } else if text.chars().any(char::is_control) {
            "of more than one line, or holds control characters"
        } else if texts[..index].iter().any(|earlier| earlier.trim() == text.trim()) {
            "given twice"
        } else {
            continue;
        };
        let text = text.chars().take(60).collect();
        return Err(StandardError::Text { what, level: index + 1, problem, text });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_words_are_exactly_the_prompt_of_the_paper() {
        let standard = Standard::from_settings(&StandardSettings::default()).unwrap();
        assert_eq!(
            standard.system_message(),
            "You are a helpful assistant to evaluate image quality. You will be given standards \
             for each quality level. The quality standard is listed as follows: 7: Perfect, \
             6: Excellent, 5: Good, 4: Fair, 3: Bad, 2: Poor, 1: Very Bad. The higher the image \
             quality is, the higher the score should be."
        );
        assert_eq!(
            standard.user_message(),
            "Please evaluate the quality of the image and score in [1, 2, 3, 4, 5, 6, 7]."
        );
        assert_eq!((standard.name().as_str(), standard.k()), ("word-7", 7));
        assert_eq!((standard.word(1), standard.word(7)), ("Very Bad", "Perfect"));
    }

    #[test]
    fn a_level_outside_the_range_has_the_nearest_word() {
        let standard = Standard::builtin(3, StandardForm::Word).unwrap();
        assert_eq!((standard.word(0), standard.word(200)), ("Bad", "Good"));
    }

    #[test]
    fn every_built_in_standard_has_a_unique_hash_and_explains_each_level() {
        let mut hashes = Vec::new();
        for k in [3, 5, 7, 9] {
            for form in [StandardForm::Number, StandardForm::Word, StandardForm::Sentence] {
                let standard = Standard::builtin(k, form).unwrap();
                assert_eq!(standard.k(), k);
                assert_eq!(standard.name(), format!("{}-{k}", form.as_str()));
                assert_eq!(standard.word(k.div_ceil(2)), "Fair", "the middle of an odd K");
                assert!(standard.user_message().ends_with(&format!(", {k}].")));
                for level in 1..=k {
                    let word = standard.word(level);
                    let entry = match form {
                        StandardForm::Number => format!("from 1 to {k}."),
                        StandardForm::Word => format!("{level}: {word}"),
                        StandardForm::Sentence => format!("{level}: {word}! The overall quality"),
                    };
                    assert!(standard.system_message().contains(&entry), "{entry}");
                }
                hashes.push(standard.hash());
            }
        }
        let all = hashes.len();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }

    #[test]
    fn the_sentence_of_the_middle_level_is_that_of_the_paper() {
        let standard = Standard::builtin(7, StandardForm::Sentence).unwrap();
        assert!(standard.system_message().contains(
            "4: Fair! The overall quality of the image is fair. There are certain merits but also \
             some deficiencies. 3: Bad!"
        ));
    }

    #[test]
    fn the_number_form_names_the_range_and_no_words() {
        let standard = Standard::builtin(5, StandardForm::Number).unwrap();
        assert_eq!(
            standard.system_message(),
            "You are a helpful assistant to evaluate image quality. The score ranges from 1 to 5. \
             The higher the image quality is, the higher the score should be."
        );
        assert_eq!(standard.word(5), "Excellent");
    }

    fn own(words: &[&str]) -> CustomStandard {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        CustomStandard { name: "print".to_owned(), words, sentences: Vec::new() }
    }

    #[test]
    fn custom_words_replace_the_built_in_ones() {
        let standard =
            Standard::custom(2, StandardForm::Word, &own(&["unusable", "printable"])).unwrap();
        assert!(standard.system_message().contains("follows: 2: printable, 1: unusable. The"));
        assert!(standard.user_message().ends_with("[1, 2]."));
        assert!(standard.name().starts_with("print-word-2-"), "{}", standard.name());
        let other = Standard::custom(2, StandardForm::Word, &own(&["bad", "printable"])).unwrap();
        assert_ne!(standard.name(), other.name());
    }

    #[test]
    fn invalid_standards_are_refused() {
        use StandardForm::{Sentence, Word};
        assert!(matches!(Standard::builtin(4, Word), Err(StandardError::Builtin { k: 4 })));
        let refused = |k, form, own: &CustomStandard| Standard::custom(k, form, own).unwrap_err();
        assert!(matches!(refused(1, Word, &own(&["a"])), StandardError::Levels { .. }));
        assert!(matches!(refused(10, Word, &own(&["a"; 10])), StandardError::Levels { .. }));
        assert!(matches!(refused(3, Word, &own(&["a", "b"])), StandardError::Count { .. }));
        assert!(matches!(refused(2, Sentence, &own(&["a", "b"])), StandardError::Count { .. }));
        for words in [["a", " "], ["a", "a "], ["a", "b\nc"], ["a", &"x".repeat(401)]] {
            assert!(matches!(refused(2, Word, &own(&words)), StandardError::Text { .. }));
        }
        let unnamed = CustomStandard { name: "my own".to_owned(), ..own(&["a", "b"]) };
        assert!(matches!(refused(2, Word, &unnamed), StandardError::Name { .. }));
    }
}
