//! The forms in which `dogiqa score` prints events.

use std::io;

use clap::ValueEnum;

use crate::event::QualityEvent;
use crate::report::table;

use super::output::say;

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A line for each image, for people
    Table,
    /// One array of quality events
    Json,
    /// One quality event a line, as on the topic
    Jsonl,
    /// The main numbers, for spreadsheets
    Csv,
}

/// Prints events one by one, so that a long run shows its first result at once.
#[derive(Debug)]
pub(super) struct Printer {
    format: Format,
    printed: usize,
}

impl Printer {
    pub(super) fn new(format: Format) -> Self {
        Self { format, printed: 0 }
    }

    pub(super) fn print(&mut self, event: &QualityEvent) -> io::Result<()> {
        let first = self.printed == 0;
        self.printed += 1;
        match self.format {
            Format::Table => {
                if first {
                    say(&table::header())?;
                }
                say(&table::line(event))
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(event)?;
                say(&format!("{}{text}", if first { "[\n" } else { ",\n" }))
            }
            Format::Jsonl => say(&serde_json::to_string(event)?),
            Format::Csv => {
                if first {
                    say(&csv_line(&CSV_COLUMNS.map(str::to_owned))?)?;
                }
                say(&csv_line(&csv_fields(event))?)
            }
        }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match (self.format, self.printed) {
            (Format::Json, 0) => say("[]"),
            (Format::Json, _) => say("]"),
            _ => Ok(()),
        }
    }
}

const CSV_COLUMNS: [&str; 10] = [
    "id",
    "uri",
    "width",
    "height",
    "score",
    "score_expected",
    "global_level",
    "local",
    "objects",
    "outcome",
];

fn csv_fields(event: &QualityEvent) -> [String; 10] {
    let outcome = event.verdict.as_ref().map(|verdict| verdict.outcome.name());
    [
        event.reference.id.clone(),
        event.reference.uri.clone(),
        event.image.width.to_string(),
        event.image.height.to_string(),
        event.score.to_string(),
        event.score_expected.to_string(),
        event.global.level.to_string(),
        event.local.map(|local| local.to_string()).unwrap_or_default(),
        event.objects.len().to_string(),
        outcome.unwrap_or_default().to_owned(),
    ]
}

fn csv_line(fields: &[String]) -> io::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(fields)?;
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
