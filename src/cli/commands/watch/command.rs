//! The arguments of `dogiqa watch` and its loop over the answers.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use tokio::time;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::watch::filter::EventFilter;
use crate::cli::commands::watch::statistics::WatchStatistics;
use crate::cli::dead_letter_format;
use crate::cli::signals::Signals;
use crate::cli::terminal::{LineFormat, print_result, print_status};
use crate::cli::time_and_rate::parse_time;
use crate::config::Settings;
use crate::report::table;
use crate::stream::{AnswerReader, Start, StreamError, WorkerAnswer};

const EXAMPLES: &str = "Examples:\n  dogiqa watch --dead-letters\n  \
    dogiqa watch --since 1h --below 3 --format jsonl --count 100 | jq -r .reference.uri\n\n\
    Exit codes: 0 ended by a signal, --count, --for or a closed output; 1 the topics cannot be read; \
    2 wrong usage.";

/// Interval at which the statistics are printed on a terminal.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Also print dead letters
    #[arg(long)]
    dead_letters: bool,
    /// Print the events of `engine.shadow` instead, from `kafka.shadow_topic`
    #[arg(long, conflicts_with = "dead_letters")]
    shadow: bool,
    /// Start with the oldest retained record instead of now
    #[arg(long, conflicts_with = "since")]
    from_beginning: bool,
    /// Start at this time: `2026-11-24T08:00:00Z`, or an age such as `2h`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    #[command(flatten)]
    filter: EventFilter,
    /// Output format
    #[arg(long, value_enum, default_value_t = LineFormat::Table)]
    format: LineFormat,
    /// Stop after this many printed answers
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this time: `10m`
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

pub(crate) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<CommandOutcome> {
    settings.kafka.validate()?;
    if args.shadow {
        let topic = settings.kafka.shadow_topic.take();
        settings.kafka.output_topic = topic.context("--shadow needs kafka.shadow_topic")?;
    }
    let mut signals = Signals::listen()?;
    let mut reader = tokio::select! {
        biased;
        reader = connect(&args, &settings) => reader?,
        _ = signals.next() => return Ok(CommandOutcome::Success),
    };
    let mut statistics = WatchStatistics::new(Instant::now());
    // A duration beyond the range of the clock means no deadline.
    let now = time::Instant::now();
    let deadline = args.duration.and_then(|duration| now.checked_add(duration));
    let mut statistics_timer = time::interval(STATISTICS_INTERVAL);
    statistics_timer.reset();
    let is_terminal = io::stderr().is_terminal();
    if args.format == LineFormat::Table {
        print_result(&table::header())?;
    }
    while args.count.is_none_or(|count| statistics.answers() < count) {
        // A busy topic always has a next record, so the stop conditions and the timer take
        // precedence.
        let answer = tokio::select! {
            biased;
            _ = signals.next() => break,
            () = sleep_until(deadline) => break,
            _ = statistics_timer.tick(), if is_terminal => {
                print_statistics(&statistics);
                continue;
            }
            answer = reader.next() => answer,
        };
        match answer {
            Ok(answer) => print_answer(&args, &answer, &mut statistics)?,
            Err(error @ StreamError::Foreign { .. }) => {
                tracing::debug!(%error, "left out");
                statistics.add_foreign();
            }
            Err(error) => return Err(error.into()),
        }
    }
    print_statistics(&statistics);
    Ok(CommandOutcome::Success)
}

async fn connect(args: &Args, settings: &Settings) -> anyhow::Result<AnswerReader> {
    let (start, start_name) = match args.since {
        Some(time) => (Start::At(time), format!("{time:?}")),
        None if args.from_beginning => (Start::Beginning, "the beginning".to_owned()),
        None => (Start::Now, "now".to_owned()),
    };
    let [_, events, dead_letters] = settings.kafka.topics();
    let topics = if args.dead_letters { vec![events, dead_letters] } else { vec![events] };
    let (kafka, topic_names) = (settings.kafka.clone(), topics.join(" and "));
    let connect = move || AnswerReader::connect_to(&kafka, &topics, start);
    let reader = tokio::task::spawn_blocking(connect).await.context("connecting")??;
    print_status(&format!("watching {topic_names} from {start_name} on; Ctrl-C ends"));
    Ok(reader)
}

/// Waits for the deadline, or forever if there is none. Cancel safe.
async fn sleep_until(deadline: Option<time::Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Prints and counts an answer that passes the filter.
fn print_answer(
    args: &Args,
    answer: &WorkerAnswer,
    statistics: &mut WatchStatistics,
) -> io::Result<()> {
    match answer {
        WorkerAnswer::Event(event) if args.filter.matches_event(event) => {
            statistics.add_event(event);
            match args.format {
                LineFormat::Table => print_result(&table::line(event)),
                LineFormat::Jsonl => print_result(&serde_json::to_string(event)?),
            }
        }
        WorkerAnswer::DeadLetter(letter) if args.filter.matches_id(&letter.name()) => {
            statistics.add_dead_letter(&letter.reason.code);
            match args.format {
                LineFormat::Table => print_result(&dead_letter_format::line_in_event_table(letter)),
                LineFormat::Jsonl => print_result(&dead_letter_format::json(letter).to_string()),
            }
        }
        WorkerAnswer::Event(_) | WorkerAnswer::DeadLetter(_) => Ok(()),
    }
}

fn print_statistics(statistics: &WatchStatistics) {
    for line in statistics.lines(Instant::now()) {
        print_status(&line);
    }
}
