//! `dogiqa models verify`: are the files what they were?

use anyhow::Context;

use crate::checkpoints::hub::{locate, verify};
use crate::checkpoints::{MplugOwl3Checkpoint, Sam2Checkpoint};
use crate::cli::Outcome;
use crate::cli::output::{complain, say};
use crate::models::{mplug_owl3, sam2};

/// What to check.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dogiqa models verify mplug-owl3-1b\n  dogiqa models verify sam2.1_hiera_tiny.pt"
)]
pub(super) struct Args {
    /// Presets, `owner/name[@revision]`, or paths
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut broken = 0;
    for name in &args.models {
        if let Err(error) = tell(name) {
            complain(&format!("{name}: {error:#}"));
            broken += 1;
        }
    }
    if broken > 0 { Outcome::Negative } else { Outcome::Done }
}

/// A line for each file, and one for the network that they are.
fn tell(name: &str) -> anyhow::Result<()> {
    let path = locate(name)?;
    for file in verify(&path)? {
        let verdict =
            if file.is_known { "as the Hub gave it" } else { "no digest to compare with" };
        say(&format!("{}  {}  {verdict}", file.digest, file.path.display()))?;
    }
    let network = if let Ok(checkpoint) = Sam2Checkpoint::open(&path) {
        let size = checkpoint.size().map_or("of an unpublished size", sam2::Size::name);
        format!("SAM {} {size}", checkpoint.version().name())
    } else {
        let checkpoint = MplugOwl3Checkpoint::open(&path)
            .context("neither a SAM 2 nor a readable mPLUG-Owl3")?;
        let release =
            checkpoint.release().map_or("of an unpublished size", mplug_owl3::Release::name);
        format!("mPLUG-Owl3 {} ({release})", checkpoint.generation().name())
    };
    say(&format!("{name}: {network}"))?;
    Ok(())
}
