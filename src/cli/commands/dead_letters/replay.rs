//! `dogiqa dead-letters replay`: sends references again after the cause of their failure is fixed.

use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::dead_letters::filter::DeadLetterFilter;
use crate::cli::dead_letter_format;
use crate::cli::terminal::{print_result, print_status, sent_records_spinner};
use crate::cli::time_and_rate::Rate;
use crate::redact::printable;
use crate::stream::{
    DeadLetter, ReplayOutcome, ReplayRequest, ReplaySummary, Settings, dry_run, replay,
};

const HELP: &str = "Examples:\n  dogiqa dead-letters replay --code fetch.forbidden --dry-run\n  \
    dogiqa dead-letters replay --code fetch --since 2h --rate 50/s\n\n\
    An interrupted replay continues when the same command is run again. The topic \
    `<dead-letter-topic>.replayed` records the dead letters that were sent.\n\n\
    Exit codes: 0 everything was sent; 1 a dead letter was refused, or the command ended early; \
    2 wrong usage.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: DeadLetterFilter,
    /// Maximum number of dead letters to send
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Print what would be sent to which topic, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Send to this topic instead of the original topics
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Also send dead letters that were sent before
    #[arg(long)]
    again: bool,
    /// Maximum rate per second, minute or hour: 50/s, 12/m, 1000/h
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
}

pub(crate) fn run(
    args: Args,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<CommandOutcome> {
    let Args { filter, limit, dry_run: is_dry_run, to, again, rate } = args;
    let request = ReplayRequest {
        start: filter.start(),
        matches: Box::new(move |letter| filter.matches(letter)),
        to_topic: to,
        include_replayed: again,
        dead_letters_max: limit,
        gap: rate.map(|rate| rate.interval),
    };
    let (summary, verb) = if is_dry_run {
        (print_plan(settings, &request, stop)?, "would be sent")
    } else {
        (send(settings, &request, stop)?, "sent")
    };
    let ReplaySummary { sent, already_sent, refused, foreign } = summary;
    print_status(&format!("{sent} {verb}, {already_sent} sent before, {refused} refused"));
    dead_letter_format::print_foreign_count(foreign);
    if stop.is_cancelled() {
        print_status("stopped before the end; the same command continues from here");
    }
    Ok(CommandOutcome::negative_if(refused > 0 || stop.is_cancelled()))
}

/// Prints what a replay would do. Stops at the first line that cannot be written.
fn print_plan(
    settings: &Settings,
    request: &ReplayRequest,
    stop: &CancellationToken,
) -> anyhow::Result<ReplaySummary> {
    let mut printed = Ok(());
    let on_fate = |letter: &DeadLetter, fate: &ReplayOutcome| {
        if let (Ok(()), Some(line)) = (&printed, line(letter, fate)) {
            printed = print_result(&line);
        }
        if printed.is_err() {
            stop.cancel();
        }
    };
    let summary = dry_run(settings, request, stop, on_fate)?;
    printed?;
    Ok(summary)
}

fn send(
    settings: &Settings,
    request: &ReplayRequest,
    stop: &CancellationToken,
) -> anyhow::Result<ReplaySummary> {
    let spinner = sent_records_spinner()?;
    let on_fate = |letter: &DeadLetter, fate: &ReplayOutcome| match fate {
        ReplayOutcome::Sent(_) => spinner.inc(1),
        ReplayOutcome::AlreadySent => {}
        ReplayOutcome::Refused(_) => {
            let line = line(letter, fate).unwrap_or_default();
            spinner.suspend(|| print_status(&line));
        }
    };
    let summary = replay(settings, request, stop, on_fate);
    spinner.finish_and_clear();
    Ok(summary?)
}

/// Returns a line with the outcome of a dead letter, or `None` if it was sent before.
fn line(letter: &DeadLetter, fate: &ReplayOutcome) -> Option<String> {
    let location = format!("{}@{}", letter.partition, letter.offset);
    let fate = match fate {
        ReplayOutcome::Sent(to) => {
            let partition = to.partition.map_or_else(String::new, |number| format!("/{number}"));
            format!("to {}{partition}", to.topic)
        }
        ReplayOutcome::AlreadySent => return None,
        ReplayOutcome::Refused(refusal) => format!("refused: {refusal}"),
    };
    let (code, name) = (&letter.reason.code, dead_letter_format::name(letter));
    Some(printable(&format!("{location:<12}  {code:<24}  {name}  {fate}")))
}
