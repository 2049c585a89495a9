//! `dogiqa models`: fetching, listing, checking and shrinking files of weights.

mod list;
mod pull;
mod quantize;
mod verify;

use super::Outcome;

const EXAMPLES: &str = "Examples:\n  dogiqa models pull laptop\n  dogiqa models list\n  \
    dogiqa models verify mplug-owl3-1b\n  \
    dogiqa models quantize --model mplug-owl3-7b-241101 --format q4-k --output owl3-7b-q4.gguf";

/// Files of weights.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch models from the Hugging Face Hub into the cache that other programs share; what is there is kept,
    /// what was cut off is continued
    Pull(pull::Args),
    /// Show the presets: what each is fetched from, its size and licence, and whether it is on this machine
    List(list::Args),
    /// Read every file of a model and compare it with the digest that the Hub gave
    Verify(verify::Args),
    /// Make a smaller file of an mPLUG-Owl3, its language model in quantised blocks; holds the new file
    /// in memory until it is written, 6 to 9 GB for a 7B
    Quantize(quantize::Args),
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    tokio::task::spawn_blocking(move || match args.command {
        Command::Pull(args) => pull::run(&args),
        Command::List(args) => list::run(&args),
        Command::Verify(args) => Ok(verify::run(&args)),
        Command::Quantize(args) => quantize::run(&args),
    })
    .await?
}
