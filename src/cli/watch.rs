//! `dogiqa watch`: quality events as they come, and what they come to.

mod filter;
mod statistics;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};

use crate::config::Settings;
use crate::report::table;
use crate::stream::{AnswerReader, Start, StreamError, WorkerAnswer};

use super::output::{LineFormat, complain, say};
use super::run::Signals;
use super::{Outcome, letter_output, when};
use filter::Filter;
use statistics::Statistics;

const EXAMPLES: &str = "Examples:\n  dogiqa watch --dead-letters\n  \
    dogiqa watch --since 1h --below 3 --format jsonl --count 100 | jq -r .reference.uri\n\n\
    Exit codes: 0 ended by a signal, --count, --for or its reader; 1 the topics cannot be read; 2 usage.";

/// Between two looks at the statistics.
const INTERVAL: Duration = Duration::from_secs(10);

/// What to watch, and for how long.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Dead letters, too
    #[arg(long)]
    dead_letters: bool,
    /// Begin with the oldest that are kept, instead of now
    #[arg(long, conflicts_with = "since")]
    from_beginning: bool,
    /// Begin at this time: `2026-11-24T08:00:00Z`, or an age such as `2h`
    #[arg(long, value_name = "TIME", value_parser = when::time)]
    since: Option<DateTime<Utc>>,
    #[command(flatten)]
    filter: Filter,
    /// How they are printed
    #[arg(long, value_enum, default_value_t = LineFormat::Table)]
    format: LineFormat,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this time: `10m`
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

pub(super) async fn run(args: Args, settings: Settings) -> anyhow::Result<Outcome> {
    settings.kafka.validate()?;
    let mut signals = Signals::listen()?;
    let reader = connect(&args, &settings);
    let mut reader = tokio::select! {
        biased;
        reader = reader => reader?,
        _ = signals.next() => return Ok(Outcome::Done),
    };
    let mut statistics = Statistics::new(Instant::now());
    // Longer than a clock can say is for ever.
    let now = tokio::time::Instant::now();
    let end = args.duration.and_then(|duration| now.checked_add(duration));
    let mut look = tokio::time::interval(INTERVAL);
    look.reset();
    let is_shown = io::stderr().is_terminal();
    if args.format == LineFormat::Table {
        say(&table::header())?;
    }
    while args.count.is_none_or(|count| statistics.shown() < count) {
        // An end comes before what a busy topic always has, and the statistics before it.
        let answer = tokio::select! {
            biased;
            _ = signals.next() => break,
            () = at(end) => break,
            _ = look.tick(), if is_shown => {
                tell(&statistics);
                continue;
            }
            answer = reader.next() => answer,
        };
        match answer {
            Ok(answer) => take(&args, &answer, &mut statistics)?,
            Err(error @ StreamError::Foreign { .. }) => {
                tracing::debug!(%error, "left out");
                statistics.add_foreign();
            }
            Err(error) => return Err(error.into()),
        }
    }
    tell(&statistics);
    Ok(Outcome::Done)
}

async fn connect(args: &Args, settings: &Settings) -> anyhow::Result<AnswerReader> {
    let (start, from) = match args.since {
        Some(time) => (Start::At(time), format!("{time:?}")),
        None if args.from_beginning => (Start::Beginning, "the beginning".to_owned()),
        None => (Start::Now, "now".to_owned()),
    };
    let [_, events, dead_letters] = settings.kafka.topics();
    let topics = if args.dead_letters { vec![events, dead_letters] } else { vec![events] };
    let (kafka, watched) = (settings.kafka.clone(), topics.join(" and "));
    let connect = move || AnswerReader::connect_to(&kafka, &topics, start);
    let reader = tokio::task::spawn_blocking(connect).await.context("connecting")??;
    complain(&format!("watching {watched} from {from} on; Ctrl-C ends"));
    Ok(reader)
}

/// That moment; never without one. Cancel safe.
async fn at(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Shows and counts an answer that passes the filter.
fn take(args: &Args, answer: &WorkerAnswer, statistics: &mut Statistics) -> io::Result<()> {
    match answer {
        WorkerAnswer::Event(event) if args.filter.takes_event(event) => {
            statistics.add_event(event);
            match args.format {
                LineFormat::Table => say(&table::line(event)),
                LineFormat::Jsonl => say(&serde_json::to_string(event)?),
            }
        }
        WorkerAnswer::DeadLetter(letter) if args.filter.takes_name(&letter.name()) => {
            statistics.add_dead_letter(&letter.reason.code);
            match args.format {
                LineFormat::Table => say(&letter_output::line_among_events(letter)),
                LineFormat::Jsonl => say(&letter_output::json(letter).to_string()),
            }
        }
        WorkerAnswer::Event(_) | WorkerAnswer::DeadLetter(_) => Ok(()),
    }
}

fn tell(statistics: &Statistics) {
    for line in statistics.lines(Instant::now()) {
        complain(&line);
    }
}
