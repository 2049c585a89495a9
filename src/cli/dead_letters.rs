//! `dogiqa dead-letters`: looking at what could not be scored, and sending it again.

mod filter;
mod list;
mod replay;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;

use super::Outcome;
use super::run::Signals;

const EXAMPLES: &str = "Examples:\n  dogiqa dead-letters list --since 2h --code fetch\n  \
    dogiqa dead-letters replay --code fetch.forbidden --dry-run";

/// Dead letters.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the dead letters that are there now, and count them by code
    List(list::Args),
    /// Send dead letters to where they came from, each once: a topic beside theirs, its name ending in
    /// `.replayed`, remembers which were
    Replay(replay::Args),
}

pub(super) async fn run(args: Args, settings: Settings) -> anyhow::Result<Outcome> {
    let kafka = settings.kafka;
    kafka.validate()?;
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let work = tokio::task::spawn_blocking(move || match args.command {
        Command::List(args) => list::run(args, &kafka, &stopped),
        Command::Replay(args) => replay::run(args, &kafka, &stopped),
    });
    signals.end_twice(work, |_| stop.cancel(), "").await??
}
