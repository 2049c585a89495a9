//! Scores that are compared with people's: of events, or of a table.

use clap::ValueEnum;
use percent_encoding::percent_decode_str;

use crate::evaluation::error::EvaluationError;
use crate::evaluation::table::{Table, file_error};
use crate::event::QualityEvent;

/// Usual names of the columns.
const NAME_COLUMNS: [&str; 7] =
    ["name", "img_name", "image_name", "image name", "image", "path", "uri"];
const VALUE_COLUMNS: [&str; 5] = ["score", "rating", "prediction", "value", "quality"];

/// The score of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Names by which a label may call the image, the most specific first: paths, URIs, ids.
    pub names: Vec<String>,
    /// The score; larger is better.
    pub value: f64,
}

/// Scores of one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Name of the origin: an engine, or a file.
    pub origin: String,
    /// The scores.
    pub scores: Vec<Score>,
    /// Number of events without the wanted value.
    pub without_value: usize,
}

/// The value of an event that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ScoreValue {
    /// `score`, the combined levels
    #[default]
    Score,
    /// `score_expected`, the combined expected levels
    ScoreExpected,
    /// Level of the whole image
    Global,
    /// Expected level of the whole image
    GlobalExpected,
    /// Combined level of the objects
    Local,
    /// The direction of the whole image's rating
    Direction,
}

impl ScoreValue {
    /// Returns the value of an event, if it has one.
    pub fn of(self, event: &QualityEvent) -> Option<f64> {
        match self {
            Self::Score => Some(event.score),
            Self::ScoreExpected => Some(event.score_expected),
            Self::Global => Some(f64::from(event.global.level)),
            Self::GlobalExpected => Some(event.global.expected),
            Self::Local => event.local,
            Self::Direction => event.global.direction,
        }
    }
}

impl Score {
    /// Returns the score of an event by a value that was computed from it.
    pub fn of_event(event: &QualityEvent, value: f64) -> Self {
        Self { names: event_names(event), value }
    }

    /// Returns the last part of the most specific name.
    pub(crate) fn file_name(&self) -> &str {
        self.names.first().map_or("", |name| last_segment(name))
    }
}

impl Scores {
    /// Takes one value of each event.
    pub fn of_events(origin: &str, events: &[QualityEvent], value: ScoreValue) -> Self {
        let score = |event| value.of(event).map(|value| Score::of_event(event, value));
        let scores: Vec<Score> = events.iter().filter_map(score).collect();
        let without_value = events.len() - scores.len();
        Self { origin: origin.to_owned(), scores, without_value }
    }

    /// Reads a CSV table with the columns of names and scores, found by their usual names, or else
    /// the first two columns.
    ///
    /// # Errors
    /// Fails on another format, fewer than two columns, and cells that are not numbers.
    pub fn from_csv(file: &str, bytes: &[u8]) -> Result<Self, EvaluationError> {
        let table = Table::from_csv(file, bytes)?;
        if table.columns().len() < 2 {
            let problem = "it needs two columns: names and scores".to_owned();
            return Err(file_error(file, problem));
        }
        let name = table.column(&NAME_COLUMNS).unwrap_or(0);
        let value = table.column(&VALUE_COLUMNS).unwrap_or(1);
        let values = table.numbers(value, false)?;
        let names = table.values(name, false);
        let score = |(name, value): (&str, f64)| Score { names: vec![name.to_owned()], value };
        let scores = names.zip(values).map(score).collect();
        Ok(Self { origin: file.to_owned(), scores, without_value: 0 })
    }
}

/// Returns the part of a path behind the last slash.
pub(crate) fn last_segment(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn event_names(event: &QualityEvent) -> Vec<String> {
    let uri = event.reference.uri.split(['?', '#']).next().unwrap_or_default();
    let decoded = percent_decode_str(uri).decode_utf8_lossy().into_owned();
    let mut names = vec![decoded, event.reference.uri.clone(), event.reference.id.clone()];
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_its_usual_columns_or_by_position() {
        let by_name = Scores::from_csv("s.csv", b"score,name\n2.5,a.jpg\n").unwrap();
        assert_eq!(by_name.scores, [Score { names: vec!["a.jpg".to_owned()], value: 2.5 }]);
        let by_position = Scores::from_csv("s.csv", b"bild,note\na.jpg,3\n").unwrap();
        assert_eq!(by_position.scores, [Score { names: vec!["a.jpg".to_owned()], value: 3.0 }]);
        assert!(Scores::from_csv("s.csv", b"score\n1\n").is_err());
    }
}
