//! `dogiqa models verify`: compares model files with their published digests.

use std::path::Path;

use anyhow::{Context, bail};

use crate::checkpoints::hub::{DigestSource, ModelBundle, locate, verify};
use crate::checkpoints::metrics::{PublishedParameters, load_parameters, parameter_files};
use crate::checkpoints::{Sam2Checkpoint, ScorerCheckpoint, TuningOf, Weights};
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::terminal::{print_result, print_status, with_causes};
use crate::models::{mplug_owl3, qwen3_5_vl, sam2};

const EXAMPLES: &str = "Examples:\n  dogiqa models verify laptop\n  \
    dogiqa models verify sam2.1_hiera_tiny.pt\n\n\
    Exit codes: 0 every model is intact; 1 a model is missing, damaged or unreadable, or with \
    `--strict` a file has no digest to compare with; 2 wrong usage.";

/// The error of a file that is no known network.
const KINDS: &str = "not a SAM 2, a Qwen3.5-VL, a CLIP or a readable mPLUG-Owl3";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Presets, bundles, metrics, `owner/name[@revision]`, addresses of the Hub or paths
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Fail if a file has no digest to compare with, as most have outside the cache
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(args: &Args) -> CommandOutcome {
    let mut broken = 0;
    let names = args.models.iter().flat_map(|name| {
        // A file or folder takes precedence, as everywhere.
        if Path::new(name).exists() { vec![name.clone()] } else { ModelBundle::expand(name) }
    });
    for name in names {
        if let Err(error) = verify_model(&name, args.strict) {
            print_status(&format!("{name}: {}", with_causes(&error)));
            broken += 1;
        }
    }
    CommandOutcome::negative_if(broken > 0)
}

/// Prints a line per file and a line with the kind of model that the files contain.
fn verify_model(name: &str, is_strict: bool) -> anyhow::Result<()> {
    if let Some(published) = PublishedParameters::find(name)
        && !Path::new(name).exists()
    {
        return verify_parameters(published);
    }
    let path = locate(name)?;
    let mut unknown = 0;
    for file in verify(&path)? {
        unknown += usize::from(file.source.is_none());
        let verdict = match file.source {
            Some(DigestSource::Hub) => "as the Hub gave it",
            Some(DigestSource::Published) => "as published",
            None => "no digest to compare with",
        };
        print_result(&format!("{}  {}  {verdict}", file.digest, file.path.display()))?;
    }
    if is_strict && unknown > 0 {
        bail!("{unknown} of its files have no digest to compare with");
    }
    print_result(&format!("{name}: {}", describe_network(&path)?))?;
    Ok(())
}

/// Returns the kind and the size of the network in a checkpoint.
fn describe_network(path: &Path) -> anyhow::Result<String> {
    let or_unpublished = |size: Option<&'static str>| size.unwrap_or("of an unpublished size");
    let weights = Weights::open(path).context(KINDS)?;
    if Sam2Checkpoint::is_of(&weights) {
        let checkpoint = Sam2Checkpoint::of(weights)?;
        let size = or_unpublished(checkpoint.size().map(sam2::Size::name));
        return Ok(format!("SAM {} {size}", checkpoint.version().name()));
    }
    Ok(match ScorerCheckpoint::of(weights).context(KINDS)? {
        ScorerCheckpoint::Qwen3_5Vl(checkpoint) => {
            let size = or_unpublished(checkpoint.config().size().map(qwen3_5_vl::Size::name));
            let tuning = match checkpoint.tuning() {
                TuningOf::QReAlign => "Q-ReAlign",
                TuningOf::Base => "not tuned for quality",
            };
            format!("Qwen3.5-VL {size} ({tuning})")
        }
        ScorerCheckpoint::Clip(checkpoint) => format!("CLIP {}", checkpoint.config().name()),
        ScorerCheckpoint::MplugOwl3(checkpoint) => {
            let release = or_unpublished(checkpoint.release().map(mplug_owl3::Release::name));
            format!("mPLUG-Owl3 {} ({release})", checkpoint.generation().name())
        }
    })
}

/// Prints a line per parameter file of a metric.
fn verify_parameters(published: &PublishedParameters) -> anyhow::Result<()> {
    let files = parameter_files(published)?;
    for file in &files {
        let verdict = if file.is_published { "as published" } else { "not the published file" };
        print_result(&format!("{}  {}  {verdict}", file.sha256, file.path.display()))?;
    }
    let metric = published.metric;
    if files.iter().any(|file| !file.is_published) {
        bail!("damaged; fetch it again with `dogiqa models pull {metric}`");
    }
    load_parameters(metric, None)?;
    print_result(&format!("{metric}: parameters of https://github.com/{}", published.repo))?;
    Ok(())
}
