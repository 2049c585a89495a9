//! `dogiqa models quantize`: writes a model that rates to a smaller GGUF file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoints::hub::locate;
use crate::checkpoints::{BlockFormat, ScorerCheckpoint};
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::terminal::print_status;

const HELP: &str = "Example:\n  dogiqa models quantize --model mplug-owl3-7b-241101 \
    --format q4-k --output owl3-7b-q4.gguf\n\n\
    The new file is held in memory until it is written: 6 to 9 GB for a 7B model.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// mPLUG-Owl3 or Qwen3.5-VL (Q-ReAlign): a preset, an `owner/name` of the Hub, a folder, or a
    /// `.safetensors` file or its index
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Number format of the language model's matrices
    #[arg(long, value_enum, default_value_t = FormatName::Q4K)]
    format: FormatName,
    /// File to write. It also contains the tokenizer and the configuration
    #[arg(long, value_name = "FILE.gguf")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// 8.5 bits per weight
    #[value(name = "q8-0")]
    Q8_0,
    /// 4.5 bits per weight; 8.5 for the embedding and the head of an mPLUG-Owl3, the gates of a
    /// Qwen3.5-VL, and matrices whose rows do not divide into blocks of 256
    #[value(name = "q4-k")]
    Q4K,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let format = match args.format {
        FormatName::Q8_0 => BlockFormat::Q8_0,
        FormatName::Q4K => BlockFormat::Q4K,
    };
    if args.output.extension().is_none_or(|extension| extension != "gguf") {
        bail!("--output {}: the name must end in `.gguf`", args.output.display());
    }
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        bail!("--output {}: there is no such folder", args.output.display());
    }
    let path = locate(&args.model).context("--model")?;
    let progress = ProgressBar::new(0);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} tensors {eta}")?);
    let show = |done: usize, of: usize| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    };
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    let before: u64 = match ScorerCheckpoint::open(&path).context("--model")? {
        ScorerCheckpoint::Qwen3_5Vl(checkpoint) => {
            checkpoint.quantize(format, &args.output, show)?;
            checkpoint.weights().files().into_iter().map(bytes).sum()
        }
        ScorerCheckpoint::MplugOwl3(checkpoint) => {
            checkpoint.quantize(format, &args.output, show)?;
            checkpoint.weights().files().into_iter().map(bytes).sum()
        }
        ScorerCheckpoint::Clip(_) => bail!("--model: a CLIP is small and is not quantised"),
    };
    progress.finish_and_clear();
    print_status(&format!(
        "{}: {}, of {}",
        args.output.display(),
        bytesize::ByteSize(bytes(&args.output)),
        bytesize::ByteSize(before)
    ));
    Ok(CommandOutcome::Success)
}
