//! `dogiqa models list`: what there is by name, and what of it is here.

use bytesize::ByteSize;

use crate::checkpoints::hub::{BUNDLES, HubError, HubModel, PRESETS, snapshot};
use crate::cli::Outcome;
use crate::cli::output::say;

/// Nothing to choose.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dogiqa models list")]
pub(super) struct Args {}

pub(super) fn run(_args: &Args) -> anyhow::Result<Outcome> {
    say(&row(["preset", "about", "licence", "here", "repository"]))?;
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
        say(&row([preset.name, &size, preset.licence, here, &format!("{}{alias}", preset.repo)]))?;
    }
    say("")?;
    for bundle in BUNDLES {
        say(&format!("{:<11} {}: {}", bundle.name, bundle.models.join(" + "), bundle.purpose))?;
    }
    Ok(Outcome::Done)
}

fn row([name, size, licence, here, repo]: [&str; 5]) -> String {
    format!("{name:<21} {size:>8}  {licence:<10}  {here:<6}  {repo}")
}
