//! The sentences for the person who uploaded a picture, one for each code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::method::ReasonCode;

/// Maximum length of a sentence in bytes.
const LENGTH_MAX: usize = 500;

/// One sentence for each code. A table of settings replaces some or all of them, for example with
/// those of another language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<ReasonCode, String>", into = "BTreeMap<ReasonCode, String>")]
pub struct ReasonTexts {
    texts: BTreeMap<ReasonCode, String>,
}

/// An error of a table of sentences.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TextsError {
    /// A sentence has no visible character.
    #[error("the text of `{0}` is empty; write a sentence or leave the code out for the default")]
    Empty(ReasonCode),
    /// A sentence is too long for an event.
    #[error("the text of `{code}` has {length} bytes, the limit is {LENGTH_MAX}; shorten it")]
    Long {
        /// The code with the sentence.
        code: ReasonCode,
        /// Its length in bytes.
        length: usize,
    },
}

impl ReasonTexts {
    /// Returns the sentence of a code.
    pub fn text(&self, code: ReasonCode) -> &str {
        self.texts.get(&code).map_or_else(|| english(code), String::as_str)
    }
}

impl Default for ReasonTexts {
    /// Returns the English sentences.
    fn default() -> Self {
        let texts = ReasonCode::ALL.map(|code| (code, english(code).to_owned())).into();
        Self { texts }
    }
}

impl TryFrom<BTreeMap<ReasonCode, String>> for ReasonTexts {
    type Error = TextsError;

    /// Completes a table with the English sentences.
    fn try_from(replaced: BTreeMap<ReasonCode, String>) -> Result<Self, TextsError> {
        for (&code, text) in &replaced {
            if text.trim().is_empty() {
                return Err(TextsError::Empty(code));
            }
            if text.len() > LENGTH_MAX {
                return Err(TextsError::Long { code, length: text.len() });
            }
        }
        let mut texts = Self::default().texts;
        texts.extend(replaced);
        Ok(Self { texts })
    }
}

impl From<ReasonTexts> for BTreeMap<ReasonCode, String> {
    fn from(table: ReasonTexts) -> Self {
        table.texts
    }
}

fn english(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::Blurred => {
            "The photo is blurred; focus again, hold the camera still, and clean the lens."
        }
        ReasonCode::MotionBlurred => {
            "The photo is smeared by movement; hold the camera still or use more light."
        }
        ReasonCode::OutOfFocusSubject => {
            "The background is sharp but the subject is not; tap on the subject to focus on it."
        }
        ReasonCode::Noisy => "The photo is grainy; take it again with more light.",
        ReasonCode::Compressed => {
            "The photo is compressed so much that blocks show; upload the original file."
        }
        ReasonCode::TooDark => "The photo is too dark; use more light or a longer exposure.",
        ReasonCode::TooBright => {
            "The photo is too bright and its light parts have lost their detail; expose it less."
        }
        ReasonCode::LowContrast => {
            "The photo looks flat and grey; avoid haze and reflections, or raise its contrast."
        }
        ReasonCode::LowResolution => {
            "The photo has too few pixels; upload it in its original, larger size."
        }
        ReasonCode::Upscaled => {
            "The photo was enlarged from a smaller one; upload the original without resizing it."
        }
        ReasonCode::Borders => "The photo has empty bars along its edges; crop them off.",
        ReasonCode::MonochromeFlat => {
            "The photo shows little more than one colour; check that nothing covered the lens."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_english_sentence() {
        let table = ReasonTexts::default();
        for code in ReasonCode::ALL {
            let text = table.text(code);
            assert!(text.starts_with("The ") && text.ends_with('.'), "{code}: {text}");
            assert_eq!(text.matches('.').count(), 1, "{code}: {text}");
            assert!(text.split_whitespace().count() <= 25, "{code}: {text}");
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }

    #[test]
    fn a_table_replaces_the_sentences_it_names() {
        let table: ReasonTexts =
            serde_json::from_str(r#"{"too_dark": "La photo est trop sombre."}"#).unwrap();
        assert_eq!(table.text(ReasonCode::TooDark), "La photo est trop sombre.");
        assert_eq!(table.text(ReasonCode::Noisy), english(ReasonCode::Noisy));
    }

    #[test]
    fn a_table_with_an_unknown_code_or_an_empty_or_long_sentence_is_refused() {
        let long = format!(r#"{{"noisy": "{}"}}"#, "x".repeat(LENGTH_MAX + 1));
        for bad in [r#"{"dark": "x"}"#, r#"{"noisy": " "}"#, &long] {
            assert!(serde_json::from_str::<ReasonTexts>(bad).is_err(), "{bad}");
        }
    }
}
