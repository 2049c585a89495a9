//! `dogiqa models list`: prints presets and bundles.

use bytesize::ByteSize;

use crate::checkpoints::hub::{BUNDLES, HubError, HubModel, PRESETS, snapshot};
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::terminal::print_result;

/// Takes no arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa models list")]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> anyhow::Result<CommandOutcome> {
    print_result(&row(["preset", "about", "licence", "here", "repository"]))?;
    for preset in &PRESETS {
        let model = HubModel::new(preset.name).expect("a preset has a repository");
        let here = match snapshot(&model) {
            Ok(_) => "yes",
            Err(HubError::Partial { .. }) => "partly",
            Err(HubError::Absent { .. }) => "no",
            Err(_) => "broken",
        };
        let size = ByteSize(preset.bytes).display().si().to_string();
        let alias = preset.alias.map(|alias| format!(" (or {alias})")).unwrap_or_default();
        print_result(&row([
            preset.name,
            &size,
            preset.licence,
            here,
            &format!("{}{alias}", preset.repo),
        ]))?;
    }
    print_result("")?;
    for bundle in BUNDLES {
        print_result(&format!(
            "{:<11} {}: {}",
            bundle.name,
            bundle.models.join(" + "),
            bundle.purpose
        ))?;
    }
    Ok(CommandOutcome::Success)
}

fn row([name, size, licence, here, repo]: [&str; 5]) -> String {
    format!("{name:<21} {size:>8}  {licence:<10}  {here:<6}  {repo}")
}
