//! `dogiqa config`: prints the effective configuration, and checks what needs no other machine.

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::terminal::print_result;
use crate::config::{Loaded, Settings};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa config --config dogiqa.toml --sources")]
pub(crate) struct Args {
    /// Print only settings that differ from their defaults, with the source of each value
    #[arg(long)]
    sources: bool,
}

pub(crate) fn run(args: &Args, loaded: &Loaded) -> anyhow::Result<CommandOutcome> {
    if args.sources {
        for (key, source) in loaded.changed() {
            print_result(&format!("{key}  # {source}"))?;
        }
    } else {
        print_result(toml::to_string(&loaded.settings)?.trim_end())?;
    }
    let Settings { method, pipeline, .. } = &loaded.settings;
    pipeline.check_method(method)?;
    Ok(CommandOutcome::Success)
}
