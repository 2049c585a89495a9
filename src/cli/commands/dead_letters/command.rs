//! The arguments of `dogiqa dead-letters` and the choice between its subcommands.

use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::dead_letters::{list, replay};
use crate::cli::signals::Signals;
use crate::config::Settings;

const EXAMPLES: &str = "Examples:\n  dogiqa dead-letters list --since 2h --code fetch\n  \
    dogiqa dead-letters replay --code fetch.forbidden --dry-run";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the current dead letters and count them by code
    List(list::Args),
    /// Send dead letters back to their original topics, each only once
    Replay(replay::Args),
}

pub(crate) async fn run(args: Args, settings: Settings) -> anyhow::Result<CommandOutcome> {
    let kafka = settings.kafka;
    kafka.validate()?;
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let work_stop = stop.clone();
    let work = tokio::task::spawn_blocking(move || match args.command {
        Command::List(args) => list::run(args, &kafka, &work_stop),
        Command::Replay(args) => replay::run(args, &kafka, &work_stop),
    });
    signals.drain_on_first_abort_on_second(work, |_| stop.cancel(), "").await??
}
