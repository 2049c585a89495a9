//! `dogiqa ask`: what mPLUG-Owl3 says about an image, in its own words.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use candle_core::Device;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::engine::{Ask, MplugOwl3Talker, Precision};
use crate::event::ImageReference;
use crate::pipeline::Journey;

use super::inputs::references;
use super::output::{complain, say};
use super::{Outcome, build};

/// Words on their way to the terminal.
const WORDS: usize = 64;

/// What to ask, about what, and whom.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dogiqa ask --model mPLUG-Owl3-2B-241014/ --prompt 'What spoils this photo?' photo.jpg\n  \
    dogiqa ask --model owl3-7b-q4.gguf --prompt 'Compare <|image|> with a sharp photo.' photos/"
)]
pub(super) struct Args {
    /// Files, folders, globs, URIs; `-` reads an image or a list of them from standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The question. The image stands before it, or where it says `<|image|>`
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Instructions before the question
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Weights of mPLUG-Owl3: a folder, a `.safetensors`, its index, or a `.gguf`
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Show the model enlarged parts of the image, too
    #[arg(long)]
    cut: bool,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Number format of the weights; half formats are slow on a CPU. A `.gguf` has its own
    #[arg(long, value_name = "f32|f16|bf16", default_value = "f32")]
    dtype: Precision,
}

pub(super) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<Outcome> {
    let piped = TempDir::new().context("a temporary folder")?;
    let references = references(&args.images, &piped, &mut settings)?;
    let (model, dtype) = (args.model.clone(), args.dtype.dtype());
    let open = move || MplugOwl3Talker::open(&model, dtype, &Device::Cpu);
    let talker = Arc::new(tokio::task::spawn_blocking(open).await?.context("--model")?);
    let journey = build::journey(&settings).await?;
    let mut failed = 0;
    for reference in &references {
        if references.len() > 1 {
            say(&format!("== {}", reference.id))?;
        }
        if let Err(error) = ask(&journey, &talker, reference, &args).await {
            if super::is_broken_pipe(&error) {
                return Err(error);
            }
            failed += 1;
            complain(&format!("{}: {error:#}", reference.id));
        }
    }
    Ok(if failed > 0 { Outcome::Negative } else { Outcome::Done })
}

/// Prints the answer word by word, as it comes.
async fn ask(
    journey: &Journey,
    talker: &Arc<MplugOwl3Talker>,
    reference: &ImageReference,
    args: &Args,
) -> anyhow::Result<()> {
    let picture = match journey.look(reference).await {
        Ok(picture) => picture,
        Err(failure) => bail!(failure.with_code()),
    };
    let (words, mut heard) = mpsc::channel::<String>(WORDS);
    let talker = Arc::clone(talker);
    let (system, question) = (args.system.clone(), args.prompt.clone());
    let (cut, tokens_max) = (args.cut, args.max_tokens as usize);
    let talking = tokio::task::spawn_blocking(move || {
        let ask = Ask { system: system.as_deref(), question: &question, cut, tokens_max };
        talker.answer(&picture, ask, |word| match words.blocking_send(word) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    });
    let mut is_silent = true;
    while let Some(word) = heard.recv().await {
        is_silent = false;
        let mut out = io::stdout().lock();
        out.write_all(word.as_bytes())?;
        out.flush()?;
    }
    let told = talking.await?;
    if told.is_ok() || !is_silent {
        say("")?;
    }
    Ok(told?)
}
