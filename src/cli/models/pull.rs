//! `dogiqa models pull`: weights from the Hub.

use anyhow::{Context, bail};
use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoints::hub::{HubModel, ModelBundle, ModelPreset, pull};
use crate::cli::Outcome;
use crate::cli::output::{complain, say};

const EXAMPLES: &str = "Examples:\n  dogiqa models pull laptop\n  dogiqa models pull sam2.1-large mplug-owl3-7b-241101\n  \
    HF_TOKEN=… dogiqa models pull owner/private-model@v2\n\n\
    Follows HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.";

/// What to fetch.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Presets, bundles (`laptop`, `production`), or `owner/name[@revision]`; `dogiqa models list` shows them
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    // A name that is wrong is said before anything is fetched.
    let mut models = Vec::new();
    for name in &args.models {
        let of_bundle =
            ModelBundle::find(name).map(|bundle| bundle.models.map(str::to_owned).to_vec());
        for name in of_bundle.unwrap_or_else(|| vec![name.clone()]) {
            let Some(model) = HubModel::new(&name) else {
                bail!(
                    "`{name}` is no preset, no bundle and no `owner/name`; see `dogiqa models list`"
                );
            };
            models.push(model);
        }
    }
    for model in &models {
        if let Some(ModelPreset { bytes, licence, .. }) = model.preset {
            let size = ByteSize(*bytes).display().si();
            complain(&format!("{}: {model}, about {size}, licence {licence}", model.written));
        }
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
            "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )?);
        let folder = pull(model, |progress| {
            if bar.message() != progress.file {
                bar.set_message(progress.file.to_owned());
            }
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
        });
        bar.finish_and_clear();
        let folder = folder.with_context(|| model.written.clone())?;
        say(&folder.display().to_string())?;
    }
    Ok(Outcome::Done)
}
