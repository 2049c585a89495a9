//! `dogiqa dead-letters replay`: sending again what could not be scored, after its cause is mended.

use tokio_util::sync::CancellationToken;

use crate::cli::output::{complain, say, sent_so_far};
use crate::cli::when::Rate;
use crate::cli::{Outcome, letter_output};
use crate::report::table::printable;
use crate::stream::{
    DeadLetter, ReplayOutcome, ReplayRequest, ReplaySummary, Settings, dry_run, replay,
};

use super::filter::Filter;

const EXAMPLES: &str = "Examples:\n  dogiqa dead-letters replay --code fetch.forbidden --dry-run\n  \
    dogiqa dead-letters replay --code fetch --since 2h --rate 50/s\n\n\
    Exit codes: 0 everything was sent; 1 something was refused, or it ended early; 2 usage.";

/// Which to send, and where to.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Send at most so many
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Say what would be sent where, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Send to this topic instead of where each came from
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Send those again, too, that were sent before
    #[arg(long)]
    again: bool,
    /// Send at most so many in a second, minute or hour: 50/s, 12/m, 1000/h
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
}

pub(super) fn run(
    args: Args,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let Args { filter, limit, dry_run: is_dry, to, again, rate } = args;
    let request = ReplayRequest {
        start: filter.start(),
        matches: Box::new(move |letter| filter.matches(letter)),
        to_topic: to,
        include_replayed: again,
        dead_letters_max: limit,
        gap: rate.map(|rate| rate.gap),
    };
    let (summary, done) = if is_dry {
        let mut broken = Ok(());
        let told = |letter: &DeadLetter, fate: &ReplayOutcome| {
            if let (Ok(()), Some(line)) = (&broken, line(letter, fate)) {
                broken = say(&line);
            }
            if broken.is_err() {
                stop.cancel();
            }
        };
        let summary = dry_run(settings, &request, stop, told)?;
        broken?;
        (summary, "would be sent")
    } else {
        (send(settings, &request, stop)?, "sent")
    };
    let ReplaySummary { sent, already_sent, refused, foreign } = summary;
    complain(&format!("{sent} {done}, {already_sent} sent before, {refused} refused"));
    letter_output::tell_foreign(foreign);
    if stop.is_cancelled() {
        complain("stopped before the end; the same command goes on from here");
    }
    let is_negative = refused > 0 || stop.is_cancelled();
    Ok(if is_negative { Outcome::Negative } else { Outcome::Done })
}

fn send(
    settings: &Settings,
    request: &ReplayRequest,
    stop: &CancellationToken,
) -> anyhow::Result<ReplaySummary> {
    let progress = sent_so_far()?;
    let told = |letter: &DeadLetter, fate: &ReplayOutcome| match fate {
        ReplayOutcome::Sent(_) => progress.inc(1),
        ReplayOutcome::AlreadySent => {}
        ReplayOutcome::Refused(_) => {
            let line = line(letter, fate).unwrap_or_default();
            progress.suspend(|| complain(&line));
        }
    };
    let summary = replay(settings, request, stop, told);
    progress.finish_and_clear();
    Ok(summary?)
}

/// What becomes of a letter; nothing of one that was sent before.
fn line(letter: &DeadLetter, fate: &ReplayOutcome) -> Option<String> {
    let place = format!("{}@{}", letter.partition, letter.offset);
    let fate = match fate {
        ReplayOutcome::Sent(to) => {
            let partition = to.partition.map_or_else(String::new, |number| format!("/{number}"));
            format!("to {}{partition}", to.topic)
        }
        ReplayOutcome::AlreadySent => return None,
        ReplayOutcome::Refused(refusal) => format!("refused: {refusal}"),
    };
    let (code, name) = (&letter.reason.code, letter_output::name(letter));
    Some(printable(&format!("{place:<12}  {code:<24}  {name}  {fate}")))
}
