//! `dogiqa ask`: what mPLUG-Owl3 says about an image, in its own words.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::engine::lane::{Lane, RunBatch};
use crate::engine::{ChatQuestion, Devices, MplugOwl3Chat, Precision, RunError};
use crate::event::ImageReference;
use crate::imaging::Picture;
use crate::models::hub::locate;
use crate::pipeline::Journey;
use crate::storage::shown_id;

use super::device::{on_device, one_place};
use super::inputs::references;
use super::output::{complain, say};
use super::{Outcome, build};

/// Words on their way to the terminal.
const WORDS: usize = 64;

/// What to ask, about what, and whom.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dogiqa ask --model mplug-owl3-2b --prompt 'What spoils this photo?' photo.jpg\n  \
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
    /// mPLUG-Owl3: a preset, an `owner/name` of the Hub, a folder, a `.safetensors`, its index, or a `.gguf`
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Show the model enlarged parts of the image, too
    #[arg(long)]
    cut: bool,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Where it runs: `auto`, `cpu`, `cuda:0`, `metal`
    #[arg(long, default_value = "auto")]
    device: Devices,
    /// Number format of the weights; half formats are slow on a processor. A `.gguf` has its own
    #[arg(long, value_name = "auto|f32|f16|bf16", default_value = "auto")]
    dtype: Precision,
}

pub(super) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<Outcome> {
    let piped = TempDir::new().context("a temporary folder")?;
    let references = references(&args.images, &piped, &mut settings)?;
    let (model, place, precision) = (args.model.clone(), one_place(&args.device)?, args.dtype);
    let question = ChatQuestion {
        system: args.system.clone(),
        question: args.prompt.clone(),
        with_crops: args.cut,
        tokens_max: args.max_tokens as usize,
    };
    let open = move || -> anyhow::Result<(RunBatch<Shown, ()>, ())> {
        let path = locate(&model).context("--model")?;
        let device = place.open().context("--device")?;
        let talker = MplugOwl3Chat::open(&path, precision.on(place), &device);
        let talker = talker.context("--model")?;
        let answer =
            move |shown: &[Shown]| shown.iter().map(|one| one.answer(&talker, &question)).collect();
        Ok((Box::new(answer), ()))
    };
    let (talker, ()) = on_device("ask", open).await?;
    let journey = build::journey(&settings).await?;
    let mut failed = 0;
    for reference in &references {
        if references.len() > 1 {
            say(&format!("== {}", reference.id))?;
        }
        if let Err(error) = ask(&journey, &talker, reference).await {
            if super::is_broken_pipe(&error) {
                return Err(error);
            }
            failed += 1;
            complain(&format!("{}: {error:#}", shown_id(&reference.id)));
        }
    }
    Ok(if failed > 0 { Outcome::Negative } else { Outcome::Done })
}

/// A picture that the question is asked about, and who hears the answer.
struct Shown {
    picture: Picture,
    words: mpsc::Sender<String>,
}

impl Shown {
    fn answer(&self, talker: &MplugOwl3Chat, question: &ChatQuestion) -> Result<(), RunError> {
        let hear = |word| match self.words.blocking_send(word) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let answered = talker.answer(&self.picture, question, hear);
        answered.map_err(|error| RunError::Batch(error.to_string().into()))
    }
}

/// Prints the answer word by word, as it comes.
async fn ask(
    journey: &Journey,
    talker: &Lane<Shown, ()>,
    reference: &ImageReference,
) -> anyhow::Result<()> {
    let picture = match journey.fetch_picture(reference).await {
        Ok(picture) => picture,
        Err(failure) => bail!(failure.with_code()),
    };
    let (words, mut heard) = mpsc::channel::<String>(WORDS);
    let talker = talker.clone();
    let talking = tokio::spawn(async move { talker.submit(Shown { picture, words }).await });
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
