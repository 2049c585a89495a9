//! The quality standard: the levels, their meaning, and the two messages of the prompt.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::method::fingerprint::{fingerprint, short};
use crate::method::levels::LEVELS_MAX;
use crate::method::release_texts::{self, ReleaseTexts};
use crate::method::standard_form::StandardForm;
use crate::method::standard_table;

/// Maximum length of a word or sentence of a custom standard, in bytes.
const TEXT_BYTES_MAX: usize = 400;

/// The source of the prompt's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StandardWording {
    /// The paper.
    Paper,
    /// The authors' program.
    Release,
}

/// The standard by which images are rated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StandardSettings {
    /// Number of levels, K: 3, 5, 7 or 9 for a built-in standard, 2 to 9 for a custom one (`own`).
    pub levels: u8,
    /// Explanation of the levels in the prompt: `number` (only the range), `word` or `sentence`.
    /// The wording `release` has no `sentence`, which the authors' program cannot run, but
    /// `number-decimal` (0 to 100) and `word-only` (no numbers: every answer is level 1).
    pub form: StandardForm,
    /// Source of the text: `paper`, or `release` for that of the authors' program, whose words for
    /// 3, 5 and 9 levels differ too.
    pub wording: StandardWording,
    /// Custom standard that replaces the built-in one.
    pub own: Option<CustomStandard>,
}

impl Default for StandardSettings {
    fn default() -> Self {
        Self { levels: 7, form: StandardForm::Word, wording: StandardWording::Paper, own: None }
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

impl CustomStandard {
    fn check(&self, k: u8, form: StandardForm) -> Result<(), StandardError> {
        if !(2..=LEVELS_MAX).contains(&usize::from(k)) {
            return Err(StandardError::Levels { k });
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_plain) {
            return Err(StandardError::Name { name: self.name.chars().take(64).collect() });
        }
        check_texts("words", k, &self.words)?;
        if form == StandardForm::Sentence || !self.sentences.is_empty() {
            check_texts("sentences", k, &self.sentences)?;
        }
        Ok(())
    }
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
    /// The wording has no such form, or not with this number of levels.
    #[error(
        "the wording `{wording}` has no form `{form}` with {k} levels; `paper` has `number`, `word` \
         and `sentence`, `release` has `word` with any number of levels, and `number`, \
         `number-decimal` and `word-only` with 7"
    )]
    Form {
        /// Name of the wording.
        wording: &'static str,
        /// Name of the form.
        form: &'static str,
        /// Number of levels.
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
    wording: StandardWording,
    custom_name: Option<String>,
    /// One per level, from the worst to the best.
    words: Vec<String>,
    system_message: String,
    user_message: String,
}

impl Standard {
    /// Creates the custom standard of the settings, or else the built-in one with K = 3, 5, 7 or 9
    /// levels.
    ///
    /// # Errors
    /// Fails on a number of levels without a built-in standard, or on a form that the wording does
    /// not have. Fails on a custom standard whose K is not in 2..=9, whose number of words or of
    /// required sentences is not K, or whose name is not a plain identifier. Fails on a text that
    /// is empty, too long, repeated or of several lines.
    pub fn from_settings(settings: &StandardSettings) -> Result<Self, StandardError> {
        let StandardSettings { levels: k, form, wording, ref own } = *settings;
        if let Some(own) = own {
            own.check(k, form)?;
            let trimmed =
                |texts: &[String]| texts.iter().map(|text| text.trim().to_owned()).collect();
            let sentences: Vec<String> = trimmed(&own.sentences);
            let name = Some(own.name.clone());
            return Self::assemble(form, wording, name, trimmed(&own.words), &sentences);
        }
        let table = standard_table::levels(k).ok_or(StandardError::Builtin { k })?;
        let column = |pick: fn(&(&str, &str)) -> String| table.iter().map(pick).collect::<Vec<_>>();
        let sentences = column(|(_, sentence)| (*sentence).to_owned());
        let words = match (wording, release_texts::words(k)) {
            (StandardWording::Release, Some(words)) => {
                words.iter().map(|word| (*word).to_owned()).collect()
            }
            _ => column(|(word, _)| (*word).to_owned()),
        };
        Self::assemble(form, wording, None, words, &sentences)
    }

    /// Creates the built-in standard with K = 3, 5, 7 or 9 levels in the paper's wording. K = 7 in
    /// words is the paper's text.
    ///
    /// # Errors
    /// Fails as [`Standard::from_settings`] does.
    pub fn builtin(k: u8, form: StandardForm) -> Result<Self, StandardError> {
        Self::from_settings(&StandardSettings { levels: k, form, ..StandardSettings::default() })
    }

    fn assemble(
        form: StandardForm,
        wording: StandardWording,
        custom_name: Option<String>,
        words: Vec<String>,
        sentences: &[String],
    ) -> Result<Self, StandardError> {
        let texts = match wording {
            StandardWording::Paper => paper_texts(form, &words, sentences),
            StandardWording::Release => release_texts::texts(form, &words)
                .map(|ReleaseTexts { system, query }| (system, query)),
        };
        let Some((system_message, user_message)) = texts else {
            let k = u8::try_from(words.len()).unwrap_or(u8::MAX);
            return Err(StandardError::Form { wording: wording.name(), form: form.name(), k });
        };
        Ok(Self { form, wording, custom_name, words, system_message, user_message })
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

    /// Returns the source of the text.
    pub fn wording(&self) -> StandardWording {
        self.wording
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

    /// Returns the name in events: `word-7`, `release-word-7` for the wording of the authors'
    /// program, or `<name>-word-5-<start of the hash>` for a custom one. The hash distinguishes
    /// different standards of the same name.
    pub fn name(&self) -> String {
        let wording = match self.wording {
            StandardWording::Paper => "",
            StandardWording::Release => "release-",
        };
        let base = format!("{wording}{}-{}", self.form.name(), self.words.len());
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

impl StandardWording {
    fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Release => "release",
        }
    }
}

/// Returns the system message and the question of the paper, or `None` for a form that it does not
/// have.
fn paper_texts(
    form: StandardForm,
    words: &[String],
    sentences: &[String],
) -> Option<(String, String)> {
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
        StandardForm::NumberDecimal | StandardForm::WordOnly => return None,
    };
    let system_message = format!(
        "You are a helpful assistant to evaluate image quality. {explained} \
         The higher the image quality is, the higher the score should be."
    );
    let numbers: Vec<String> = (1..=k).map(|level| level.to_string()).collect();
    let user_message =
        format!("Please evaluate the quality of the image and score in [{}].", numbers.join(", "));
    Some((system_message, user_message))
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
                assert_eq!(standard.name(), format!("{}-{k}", form.name()));
                assert_eq!(standard.word(k.div_ceil(2)), "Fair", "the middle of an odd K");
                assert!(standard.user_message().ends_with(&format!(", {k}].")));
                for level in 1..=k {
                    let word = standard.word(level);
                    let entry = match form {
                        StandardForm::Number => format!("from 1 to {k}."),
                        StandardForm::Word => format!("{level}: {word}"),
                        _ => format!("{level}: {word}! The overall quality"),
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

    fn custom(k: u8, form: StandardForm, own: CustomStandard) -> Result<Standard, StandardError> {
        let own = Some(own);
        Standard::from_settings(&StandardSettings { levels: k, form, own, ..Default::default() })
    }

    #[test]
    fn custom_words_replace_the_built_in_ones() {
        let standard = custom(2, StandardForm::Word, own(&["unusable", "printable"])).unwrap();
        assert!(standard.system_message().contains("follows: 2: printable, 1: unusable. The"));
        assert!(standard.user_message().ends_with("[1, 2]."));
        assert!(standard.name().starts_with("print-word-2-"), "{}", standard.name());
        let other = custom(2, StandardForm::Word, own(&["bad", "printable"])).unwrap();
        assert_ne!(standard.name(), other.name());
    }

    #[test]
    fn invalid_standards_are_refused() {
        use StandardForm::{Sentence, Word};
        assert!(matches!(Standard::builtin(4, Word), Err(StandardError::Builtin { k: 4 })));
        let refused = |k, form, own: CustomStandard| custom(k, form, own).unwrap_err();
        assert!(matches!(refused(1, Word, own(&["a"])), StandardError::Levels { .. }));
        assert!(matches!(refused(10, Word, own(&["a"; 10])), StandardError::Levels { .. }));
        assert!(matches!(refused(3, Word, own(&["a", "b"])), StandardError::Count { .. }));
        assert!(matches!(refused(2, Sentence, own(&["a", "b"])), StandardError::Count { .. }));
        for words in [["a", " "], ["a", "a "], ["a", "b\nc"], ["a", &"x".repeat(401)]] {
            assert!(matches!(refused(2, Word, own(&words)), StandardError::Text { .. }));
        }
        let unnamed = CustomStandard { name: "my own".to_owned(), ..own(&["a", "b"]) };
        assert!(matches!(refused(2, Word, unnamed), StandardError::Name { .. }));
    }

    fn release(k: u8, form: StandardForm) -> Result<Standard, StandardError> {
        let wording = StandardWording::Release;
        let own = None;
        Standard::from_settings(&StandardSettings { levels: k, form, wording, own })
    }

    #[test]
    fn the_authors_program_has_its_own_words_and_text() {
        let standard = release(3, StandardForm::Word).unwrap();
        assert!(
            standard.system_message().contains("follows:\n3: Excellent!\n2: Fair!\n1: Poor!\n")
        );
        assert!(standard.user_message().ends_with("Do not analysis the image."));
        assert_eq!(standard.name(), "release-word-3");
        let seven = release(7, StandardForm::Word).unwrap();
        let paper = Standard::builtin(7, StandardForm::Word).unwrap();
        assert!((1..=7).all(|level| seven.word(level) == paper.word(level)));
        assert_ne!(seven.hash(), paper.hash());
    }

    #[test]
    fn a_form_that_a_wording_does_not_have_is_refused_with_those_that_it_has() {
        use StandardForm::{Number, NumberDecimal, Sentence, Word, WordOnly};
        for form in [Number, NumberDecimal, WordOnly] {
            release(7, form).unwrap();
            release(5, form).unwrap_err();
        }
        for k in [3, 5, 7, 9] {
            release(k, Word).unwrap();
            let error = release(k, Sentence).unwrap_err().to_string();
            assert!(error.contains("`sentence`") && error.contains("`word-only`"), "{error}");
        }
        for form in [NumberDecimal, WordOnly] {
            assert!(matches!(Standard::builtin(7, form), Err(StandardError::Form { .. })));
        }
    }
}
