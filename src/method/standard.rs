//! What the scorer is asked: the levels, what each one means, and the two messages of the prompt.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::fingerprint::{fingerprint, short};
use super::levels::LEVELS_MAX;
use super::standard_table;

/// Longest word or sentence of a user's own standard, in bytes.
const TEXT_BYTES_MAX: usize = 400;

/// How the levels are explained to the scorer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StandardForm {
    /// Not at all: only the range of numbers.
    Number,
    /// One word per level; the paper's best.
    Word,
    /// A sentence per level.
    Sentence,
}

impl StandardForm {
    /// The form as it is written in configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Word => "word",
            Self::Sentence => "sentence",
        }
    }
}

/// Which standard the images are held to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StandardSettings {
    /// Number of levels, K: 3, 5, 7 or 9 for the built-in standards, 2 to 9 for one's own.
    pub levels: u8,
    /// How the levels are explained: `number`, `word` or `sentence`.
    pub form: StandardForm,
    /// A standard of one's own in place of the built-in one.
    pub own: Option<OwnStandard>,
}

impl Default for StandardSettings {
    fn default() -> Self {
        Self { levels: 7, form: StandardForm::Word, own: None }
    }
}

/// A user's own standard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnStandard {
    /// What events call it: letters, digits, `-` and `_`.
    pub name: String,
    /// One word for each level, from the worst to the best.
    pub words: Vec<String>,
    /// One sentence for each level, from the worst to the best; needed for the form `sentence`.
    #[serde(default)]
    pub sentences: Vec<String>,
}

/// A standard that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StandardError {
    /// There is no built-in standard with this many levels.
    #[error("no built-in standard has {k} levels; choose 3, 5, 7 or 9, or give words of your own")]
    Builtin {
        /// The number asked for.
        k: u8,
    },
    /// A number of levels outside 2..=9.
    #[error("a standard of {k} levels cannot be asked for; choose 2 to {LEVELS_MAX}")]
    Levels {
        /// The number asked for.
        k: u8,
    },
    /// A name with other characters than letters, digits, `-` and `_`.
    #[error("the standard's name {name:?} must be 1 to 64 letters, digits, '-' or '_'")]
    Name {
        /// The name.
        name: String,
    },
    /// Another number of words or sentences than levels.
    #[error("the standard has {found} {what} for {k} levels; give one for each")]
    Count {
        /// `words` or `sentences`.
        what: &'static str,
        /// How many were given.
        found: usize,
        /// How many levels there are.
        k: u8,
    },
    /// A text that is empty, too long, spans lines, or is given twice.
    #[error("{what} {level} of the standard is {problem}: {text:?}")]
    Text {
        /// `word` or `sentence`.
        what: &'static str,
        /// The level, from 1.
        level: usize,
        /// What is wrong with it.
        problem: &'static str,
        /// The text, cut to a readable length.
        text: String,
    },
}

/// The levels 1..=K and the exact prompt that asks for one of them.
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
    own_name: Option<String>,
    /// One per level, from the worst to the best.
    words: Vec<String>,
    system_message: String,
    user_message: String,
}

impl Standard {
    /// The standard that the settings describe: one's own where it is given, else the built-in.
    ///
    /// # Errors
    /// What [`Standard::builtin`] and [`Standard::custom`] refuse.
    pub fn from_settings(settings: &StandardSettings) -> Result<Self, StandardError> {
        match &settings.own {
            Some(own) => Self::custom(settings.levels, settings.form, own),
            None => Self::builtin(settings.levels, settings.form),
        }
    }

    /// The built-in standard with K of 3, 5, 7 or 9 levels. K = 7 in words is the paper's own text.
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

    /// A user's own standard.
    ///
    /// # Errors
    /// K outside 2..=9; another number of words than K, or of sentences when the form asks for
    /// them; an empty, overlong, many-lined or repeated text; a name that is no plain identifier.
    pub fn custom(k: u8, form: StandardForm, own: &OwnStandard) -> Result<Self, StandardError> {
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
        own_name: Option<String>,
        words: Vec<String>,
        sentences: &[String],
    ) -> Self {
        let system_message = system_message(form, &words, sentences);
        let numbers: Vec<String> = (1..=words.len()).map(|level| level.to_string()).collect();
        let user_message = format!(
            "Please evaluate the quality of the image and score in [{}].",
            numbers.join(", ")
        );
        Self { form, own_name, words, system_message, user_message }
    }

    /// Number of levels.
    pub fn k(&self) -> u8 {
        // The constructors allow at most 9.
        u8::try_from(self.words.len()).unwrap_or(u8::MAX)
    }

    /// How the levels are explained.
    pub fn form(&self) -> StandardForm {
        self.form
    }

    /// The word for a level in 1..=K; a level outside gets the nearest end's word.
    pub fn word(&self, level: u8) -> &str {
        &self.words[usize::from(level.clamp(1, self.k())) - 1]
    }

    /// The system message, exactly as the scorer gets it.
    pub fn system_message(&self) -> &str {
        &self.system_message
    }

    /// The text of the user's turn, which stands after the image.
    pub fn user_message(&self) -> &str {
        &self.user_message
    }

    /// What events call it: `word-7`; for one's own `<name>-word-5-<first of the hash>`, so that
    /// two different standards of one name can be told apart.
    pub fn name(&self) -> String {
        let base = format!("{}-{}", self.form.as_str(), self.words.len());
        match &self.own_name {
            None => base,
            Some(own) => {
                format!("{own}-{base}-{}", short(&self.hash()))
            }
        }
    }

    /// SHA-256 of the words and both messages, in hexadecimal.
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
    fn seven_words_are_the_papers_prompt_to_the_letter() {
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
    fn a_level_outside_gets_the_word_of_the_nearest_end() {
        let standard = Standard::builtin(3, StandardForm::Word).unwrap();
        assert_eq!((standard.word(0), standard.word(200)), ("Bad", "Good"));
    }

    #[test]
    fn every_built_in_standard_has_its_own_hash_and_explains_each_level() {
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
    fn the_sentence_for_the_middle_is_the_papers() {
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

    fn own(words: &[&str]) -> OwnStandard {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        OwnStandard { name: "print".to_owned(), words, sentences: Vec::new() }
    }

    #[test]
    fn ones_own_words_take_the_place_of_the_built_in_ones() {
        let standard =
            Standard::custom(2, StandardForm::Word, &own(&["unusable", "printable"])).unwrap();
        assert!(standard.system_message().contains("follows: 2: printable, 1: unusable. The"));
        assert!(standard.user_message().ends_with("[1, 2]."));
        assert!(standard.name().starts_with("print-word-2-"), "{}", standard.name());
        let other = Standard::custom(2, StandardForm::Word, &own(&["bad", "printable"])).unwrap();
        assert_ne!(standard.name(), other.name());
    }

    #[test]
    fn standards_that_cannot_be_asked_for_are_refused() {
        use StandardForm::{Sentence, Word};
        assert!(matches!(Standard::builtin(4, Word), Err(StandardError::Builtin { k: 4 })));
        let refused = |k, form, own: &OwnStandard| Standard::custom(k, form, own).unwrap_err();
        assert!(matches!(refused(1, Word, &own(&["a"])), StandardError::Levels { .. }));
        assert!(matches!(refused(10, Word, &own(&["a"; 10])), StandardError::Levels { .. }));
        assert!(matches!(refused(3, Word, &own(&["a", "b"])), StandardError::Count { .. }));
        assert!(matches!(refused(2, Sentence, &own(&["a", "b"])), StandardError::Count { .. }));
        for words in [["a", " "], ["a", "a "], ["a", "b\nc"], ["a", &"x".repeat(401)]] {
            assert!(matches!(refused(2, Word, &own(&words)), StandardError::Text { .. }));
        }
        let unnamed = OwnStandard { name: "my own".to_owned(), ..own(&["a", "b"]) };
        assert!(matches!(refused(2, Word, &unnamed), StandardError::Name { .. }));
    }
}
