//! `dogiqa monitor`: serves a live page over the answers of the workers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::signals::Signals;
use crate::cli::terminal::print_status;
use crate::cli::time_and_rate::parse_time;
use crate::config::Settings;
use crate::monitor::{Board, Feed, PageServer, connection};
use crate::storage::Stores;
use crate::stream::Start;

const EXAMPLES: &str = "Examples:\n  dogiqa monitor --since 1h\n  \
    dogiqa monitor --set 'monitor.metadata=[\"market\"]' --set monitor.listen=127.0.0.1:8080\n\n\
    Thumbnails are read from the places that `storage` allows, as the worker does.\n\n\
    Exit codes: 0 ended by a signal; 1 the page cannot be served; 2 wrong usage.";

/// Longest wait for the threads at the end.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Start at this time instead of now: `2026-11-24T08:00:00Z`, or an age such as `2h`. With
    /// more than `monitor.window`, the reference for the scores is there from the start
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
}

pub(crate) async fn run(args: Args, settings: Settings) -> anyhow::Result<CommandOutcome> {
    settings.kafka.validate()?;
    settings.monitor.validate()?;
    let mut signals = Signals::listen()?;
    let stores = Stores::new(&settings.storage).context("storage")?;
    let board = Arc::new(Board::new(&settings.monitor, connection(&settings.kafka)));
    let stop = CancellationToken::new();
    let server =
        PageServer::bind(Arc::clone(&board), stores, settings.imaging, stop.clone()).await?;
    let start = args.since.map_or(Start::Now, Start::At);
    let feed = Feed::start(&board, &settings.kafka, start, &stop).context("reading Kafka")?;
    let address = server.address();
    print_status(&format!("the page is at http://{address}/; Ctrl-C ends"));
    let served =
        signals.drain_on_first_abort_on_second(server.serve(), |_| stop.cancel(), "").await;
    stop.cancel();
    // A request to a broker that does not answer must not delay the exit.
    drop(timeout(JOIN_TIMEOUT, spawn_blocking(move || feed.join())).await);
    served?;
    Ok(CommandOutcome::Success)
}
