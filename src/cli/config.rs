//! `dogiqa config`: what the service would run with.

use crate::config::Loaded;

use super::Outcome;
use super::output::say;

/// How to show it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa config --config dogiqa.toml --sources")]
pub(super) struct Args {
    /// Show only what differs from the defaults, and where it came from
    #[arg(long)]
    sources: bool,
}

pub(super) fn run(args: &Args, loaded: &Loaded) -> anyhow::Result<Outcome> {
    if args.sources {
        for (key, source) in loaded.changed() {
            say(&format!("{key}  # {source}"))?;
        }
    } else {
        say(toml::to_string(&loaded.settings)?.trim_end())?;
    }
    Ok(Outcome::Done)
}
