//! `dogiqa models pull`: downloads models from the Hugging Face Hub, and the parameters of metrics
//! from their authors' repositories.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoints::hub::{
    HubModel, ModelBundle, ModelPreset, PullReport, PullScope, hint_for_unknown, pull,
};
use crate::checkpoints::metrics::{GITHUB_RAW, PublishedParameters, pull_parameters};
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::models::progress_lines::ProgressLines;
use crate::cli::terminal::{print_result, print_status};

const HELP: &str = "Examples:\n  dogiqa models pull laptop\n  \
    dogiqa models pull sam2.1-large mplug-owl3-7b-241101\n  \
    HF_TOKEN=… dogiqa models pull owner/private-model@v2\n\n\
    Intact files that are already in the cache are kept, damaged ones are fetched again. An \
    interrupted download continues where it stopped. If the Hub is not reached or the cache cannot \
    be written, a complete model in the cache is used.\n\n\
    Environment variables: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, \
    HF_HUB_DOWNLOAD_TIMEOUT, HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Presets, bundles (`laptop`, `paper`, `production`), metrics (`niqe`, `brisque`, `biqi`,
    /// `bliinds2`), `owner/name[@revision]` or addresses of the Hub. `dogiqa models list` prints
    /// all presets, bundles and metrics
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Fetch every file again, even if it is in the cache and intact
    #[arg(long)]
    force: bool,
    /// Server with the files of metrics: GitHub, or a mirror with the same paths
    #[arg(long, value_name = "URL", default_value = GITHUB_RAW)]
    metrics_from: String,
}

/// Something to fetch.
enum Wanted {
    Model(HubModel),
    Parameters(&'static PublishedParameters),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    // All names are checked before the first download starts.
    let mut all = Vec::new();
    for name in &args.models {
        if let Some(published) = PublishedParameters::find(name) {
            all.push(Wanted::Parameters(published));
            continue;
        }
        for name in ModelBundle::expand(name) {
            let Some(model) = HubModel::new(&name) else {
                bail!(
                    "`{name}` is not a preset, a bundle, a metric or an `owner/name`; see `dogiqa \
                     models list`{}",
                    hint_for_unknown(&name)
                );
            };
            all.push(Wanted::Model(model));
        }
    }
    let scope = if args.force { PullScope::Everything } else { PullScope::MissingOrDamaged };
    for wanted in &all {
        let folder = match wanted {
            Wanted::Model(model) => pull_model(model, scope)?,
            Wanted::Parameters(published) => {
                let PublishedParameters { metric, repo, licence, .. } = published;
                let size = ByteSize(published.bytes()).display().si();
                print_status(&format!(
                    "{metric}: https://github.com/{repo}, {size}, licence {licence}"
                ));
                pull_parameters(published, &args.metrics_from, scope)?
            }
        };
        print_result(&folder.display().to_string())?;
    }
    Ok(CommandOutcome::Success)
}

fn pull_model(model: &HubModel, scope: PullScope) -> anyhow::Result<PathBuf> {
    if let Some(ModelPreset { bytes, licence, .. }) = model.preset {
        let about = bytes.map(|bytes| format!(", about {}", ByteSize(bytes).display().si()));
        let about = about.unwrap_or_default();
        print_status(&format!("{}: {model}{about}, licence {licence}", model.written));
    }
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )?);
    let mut lines = ProgressLines::new(Instant::now());
    let folder = pull(model, scope, |report| match report {
        PullReport::Notice(notice) => {
            bar.suspend(|| print_status(&format!("{}: {notice}", model.written)));
        }
        // Standard error is not a terminal.
        PullReport::Progress(progress) if bar.is_hidden() => {
            if let Some(line) = lines.line(progress, Instant::now()) {
                print_status(&line);
            }
        }
        PullReport::Progress(progress) => {
            if bar.message() != progress.file {
                bar.set_message(progress.file.to_owned());
            }
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
        }
    });
    bar.finish_and_clear();
    folder.with_context(|| model.written.clone())
}
