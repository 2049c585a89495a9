//! `dogiqa dead-letters list`: what could not be scored, and why.

use tokio_util::sync::CancellationToken;

use crate::cli::codes::CodeCounts;
use crate::cli::output::{LineFormat, complain, say};
use crate::cli::{Outcome, letter_output};
use crate::stream::{DeadLetterReader, Settings};

use super::filter::Filter;

const EXAMPLES: &str = "Examples:\n  dogiqa dead-letters list --since 2h --code fetch\n  \
    dogiqa dead-letters list --format jsonl | jq -r 'select(.replays > 0) | .reference.uri'";

/// Which to show, and how.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// How they are printed
    #[arg(long, value_enum, default_value_t = LineFormat::Table)]
    format: LineFormat,
}

pub(super) fn run(
    args: Args,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let Args { filter, limit, format } = args;
    let mut letters = DeadLetterReader::open(settings, filter.start())?;
    if format == LineFormat::Table {
        say(&letter_output::header())?;
    }
    let (mut shown, mut codes) = (0, CodeCounts::default());
    while shown < limit
        && let Some(letter) = letters.next(stop)?
    {
        if !filter.matches(&letter) {
            continue;
        }
        match format {
            LineFormat::Table => say(&letter_output::line(&letter))?,
            LineFormat::Jsonl => say(&letter_output::json(&letter).to_string())?,
        }
        shown += 1;
        codes.add(&letter.reason.code);
    }
    complain(&format!("dead letters: {shown}"));
    for (code, count) in codes.iter() {
        complain(&format!("{count:>8}  {code}"));
    }
    letter_output::tell_foreign(letters.foreign());
    if stop.is_cancelled() {
        complain("stopped before the end");
        return Ok(Outcome::Negative);
    }
    Ok(Outcome::Done)
}
