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

impl Question {
    /// Returns the name in settings and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Aesthetics => "aesthetics",
        }
    }
}

/// The questions about an image: one, or both. The first is the score's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "WrittenQuestions", into = "WrittenQuestions")]
pub struct Questions {
    first: Question,
    second: Option<Question>,
}

/// The questions in a configuration.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "`quality`, `aesthetics`, or a list of both")]
enum WrittenQuestions {
    One(Question),
    Several(Vec<Question>),
}

impl Questions {
    /// Both questions; the first is the score's.
    pub fn both(first: Question) -> Self {
        let second = match first {
            Question::Quality => Question::Aesthetics,
            Question::Aesthetics => Question::Quality,
        };
        Self { first, second: Some(second) }
    }

    /// Returns the questions in order; at least one.
    pub fn all(self) -> impl Iterator<Item = Question> {
        std::iter::once(self.first).chain(self.second)
    }
}

impl From<Question> for Questions {
    fn from(first: Question) -> Self {
        Self { first, second: None }
    }
}

impl TryFrom<WrittenQuestions> for Questions {
    type Error = &'static str;

    fn try_from(written: WrittenQuestions) -> Result<Self, Self::Error> {
        match written {
            WrittenQuestions::One(question) => Ok(question.into()),
            WrittenQuestions::Several(questions) => match questions[..] {
                [first, second] if first != second => Ok(Self { first, second: Some(second) }),
                _ => Err("a list has both questions, `quality` and `aesthetics`; name one alone"),
            },
        }
    }
}

impl From<Questions> for WrittenQuestions {
    fn from(questions: Questions) -> Self {
        match questions {
            Questions { first, second: None } => Self::One(first),
            both => Self::Several(both.all().collect()),
        }
    }
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
    /// Asks for `quality` or `aesthetics`, or for both: of `["quality", "aesthetics"]` the first is
    /// the score's, and the other is added to each rating. The image and the text before it are
    /// read once for both.
    pub question: Questions,
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
            question: Questions::default(),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Questions, String> {
        let questions = Questions::deserialize(value).map_err(|error| error.to_string())?;
        assert_eq!(serde_json::to_value(questions).unwrap(), *value, "written as it is read");
        Ok(questions)
    }

    #[test]
    fn a_question_is_named_alone_and_both_in_a_list() {
        assert_eq!(read(&json!("aesthetics")), Ok(Question::Aesthetics.into()));
        let both = Questions::both(Question::Aesthetics);
        assert_eq!(read(&json!(["aesthetics", "quality"])), Ok(both));
        for (value, part) in [
            (json!(["quality"]), "name one alone"),
            (json!(["quality", "quality"]), "both questions"),
            (json!([]), "both questions"),
            (json!("beauty"), "or a list of both"),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
