//! Prints quality events in the formats of `dogiqa score`.

use std::io;

use clap::ValueEnum;

use crate::cli::terminal::print_result;
use crate::event::QualityEvent;
use crate::report::{ReasonGroup, table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventFormat {
    /// One aligned line per image, for people, with its reasons below
    Table,
    /// One JSON array of quality events
    Json,
    /// One quality event per line, as on the output topic
    Jsonl,
    /// The main figures and the measures, for spreadsheets
    Csv,
}

/// Prints each event immediately, so that a long run shows its first result early.
#[derive(Debug)]
pub(crate) struct EventPrinter {
    format: EventFormat,
    printed: usize,
}

impl EventPrinter {
    pub(crate) fn new(format: EventFormat) -> Self {
        Self { format, printed: 0 }
    }

    pub(crate) fn print(&mut self, event: &QualityEvent) -> io::Result<()> {
        let is_first = self.printed == 0;
        self.printed += 1;
        match self.format {
            EventFormat::Table => {
                if is_first {
                    print_result(&table::header())?;
                }
                print_result(&table::line(event))?;
                table::reason_lines(event).iter().try_for_each(|line| print_result(line))
            }
            EventFormat::Json => {
                let text = serde_json::to_string_pretty(event)?;
                print_result(&format!("{}{text}", if is_first { "[\n" } else { ",\n" }))
            }
            EventFormat::Jsonl => print_result(&serde_json::to_string(event)?),
            EventFormat::Csv => {
                if is_first {
                    print_result(&csv_line(&csv_columns(event))?)?;
                }
                print_result(&csv_line(&csv_fields(event))?)
            }
        }
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        match (self.format, self.printed) {
            (EventFormat::Json, 0) => print_result("[]"),
            (EventFormat::Json, _) => print_result("]"),
            _ => Ok(()),
        }
    }
}

const CSV_COLUMNS: [&str; 11] = [
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
    "reasons",
];

/// Returns the names of the columns. All events of a run have the same measures.
fn csv_columns(event: &QualityEvent) -> Vec<String> {
    let measures = event.measures.iter().map(|measure| measure.name.clone());
    CSV_COLUMNS.map(str::to_owned).into_iter().chain(measures).collect()
}

/// Returns the values of the columns. A measure without a value is empty.
fn csv_fields(event: &QualityEvent) -> Vec<String> {
    let outcome = event.verdict.as_ref().map(|verdict| verdict.outcome.name());
    let reasons: Vec<&str> = ReasonGroup::of(event).iter().map(|group| group.code.name()).collect();
    let figures = [
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
        reasons.join(" "),
    ];
    let measures = event.measures.iter().map(|measure| measure.value);
    let measures = measures.map(|value| value.map(|value| value.to_string()).unwrap_or_default());
    figures.into_iter().chain(measures).collect()
}

fn csv_line(fields: &[String]) -> io::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(fields)?;
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
