//! The arguments of `dogiqa models` and the choice between its subcommands.

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::models::{list, pull, quantize, verify};

const EXAMPLES: &str = "Examples:\n  dogiqa models pull laptop\n  dogiqa models list\n  \
    dogiqa models verify laptop\n  \
    dogiqa models quantize --model mplug-owl3-7b-241101 --format q4-k --output owl3-7b-q4.gguf";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Download models from the Hugging Face Hub into its shared cache
    Pull(pull::Args),
    /// List the presets with size, licence, repository and whether they are in the cache, and what
    /// else is in the cache
    List(list::Args),
    /// Compare every file of a model with the digest published by the Hub
    Verify(verify::Args),
    /// Write an mPLUG-Owl3 model with a quantised language model to a GGUF file
    Quantize(quantize::Args),
}

pub(crate) async fn run(args: Args) -> anyhow::Result<CommandOutcome> {
    tokio::task::spawn_blocking(move || match args.command {
        Command::Pull(args) => pull::run(&args),
        Command::List(args) => list::run(&args),
        Command::Verify(args) => Ok(verify::run(&args)),
        Command::Quantize(args) => quantize::run(&args),
    })
    .await?
}
