//! `dogiqa dead-letters list`: prints dead letters and counts them by code.

use tokio_util::sync::CancellationToken;

use crate::cli::code_counts::CodeCounts;
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::dead_letters::filter::DeadLetterFilter;
use crate::cli::dead_letter_format;
use crate::cli::terminal::{LineFormat, print_result, print_status};
use crate::stream::{DeadLetterReader, Settings};

const EXAMPLES: &str = "Examples:\n  dogiqa dead-letters list --since 2h --code fetch\n  \
    dogiqa dead-letters list --format jsonl | jq -r 'select(.replays > 0) | .reference.uri'\n\n\
    Exit codes: 0 the list is complete; 1 it is incomplete, or the topic cannot be read; 2 wrong usage.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: DeadLetterFilter,
    /// Maximum number of dead letters to list
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Output format
    #[arg(long, value_enum, default_value_t = LineFormat::Table)]
    format: LineFormat,
}

pub(crate) fn run(
    args: Args,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<CommandOutcome> {
    let Args { filter, limit, format } = args;
    let mut letters = DeadLetterReader::open(settings, filter.start())?;
    if format == LineFormat::Table {
        print_result(&dead_letter_format::header())?;
    }
    let (mut listed, mut codes) = (0, CodeCounts::default());
    while listed < limit
        && let Some(letter) = letters.next(stop)?
    {
        if !filter.matches(&letter) {
            continue;
        }
        match format {
            LineFormat::Table => print_result(&dead_letter_format::line(&letter))?,
            LineFormat::Jsonl => print_result(&dead_letter_format::json(&letter).to_string())?,
        }
        listed += 1;
        codes.add(&letter.reason.code);
    }
    print_status(&format!("dead letters: {listed}"));
    for (code, count) in codes.iter() {
        print_status(&format!("{count:>8}  {code}"));
    }
    dead_letter_format::print_foreign_count(letters.foreign());
    if stop.is_cancelled() {
        print_status("stopped before the end");
        return Ok(CommandOutcome::Negative);
    }
    Ok(CommandOutcome::Success)
}
