//! `dogiqa ask`: asks mPLUG-Owl3 a question about images and prints the answers.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::{Context, bail};
use clap::value_parser;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::checkpoints::hub::locate;
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::image_arguments::{ResolvedImages, resolve_references};
use crate::cli::journey_setup::open_journey;
use crate::cli::single_model::{single_device, spawn_model_lane};
use crate::cli::terminal::{is_broken_pipe, print_result, print_status, with_causes};
use crate::config::Settings;
use crate::engine::lane::{Lane, RunBatch};
use crate::engine::{ChatQuestion, Devices, MplugOwl3Chat, Precision, RunError};
use crate::event::ImageReference;
use crate::imaging::Picture;
use crate::pipeline::Journey;
use crate::redact;

/// Capacity of the channel between the model's thread and the terminal, in pieces of text.
const PIECE_QUEUE: usize = 64;

const EXAMPLES: &str = "Examples:\n  \
    dogiqa ask --model mplug-owl3-2b --prompt 'What spoils this photo?' photo.jpg\n  \
    dogiqa ask --model owl3-7b-q4.gguf --prompt 'Compare <|image|> with a sharp photo.' photos/\n\n\
    Exit codes: 0 every image has an answer; 1 an image failed; 2 wrong usage.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files, folders, globs or URIs; `-` reads an image, or a list with one path or URI per line,
    /// from standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The question. The image is inserted at `<|image|>`, or before the question
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// System message before the question
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// mPLUG-Owl3 model: a preset, an `owner/name` of the Hub, a folder, a `.safetensors` file or
    /// its index, or a `.gguf` file
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Also show the model enlarged crops of the image
    #[arg(long)]
    cut: bool,
    /// Maximum number of tokens per answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Device of the model: `auto`, `cpu`, `cuda:0`, `metal`
    #[arg(long, default_value = "auto")]
    device: Devices,
    /// Number format of the weights; half precision is slow on a CPU. A `.gguf` file has its own
    /// formats
    #[arg(long, value_name = "auto|f32|f16|bf16", default_value = "auto")]
    dtype: Precision,
}

pub(crate) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<CommandOutcome> {
    let stdin_folder = TempDir::new().context("a temporary folder")?;
    let ResolvedImages { references, mut failed } =
        resolve_references(&args.images, &stdin_folder, &mut settings)?;
    let (model, place, precision) = (args.model.clone(), single_device(&args.device)?, args.dtype);
    let options = ChatQuestion {
        system: args.system.clone(),
        question: args.prompt.clone(),
        with_crops: args.cut,
        tokens_max: args.max_tokens as usize,
    };
    let open = move || -> anyhow::Result<(RunBatch<Question, ()>, ())> {
        let path = locate(&model).context("--model")?;
        let device = place.open().context("--device")?;
        let talker = MplugOwl3Chat::open(&path, precision.on(place), &device).context("--model")?;
        let answer = move |questions: &[Question]| {
            questions.iter().map(|question| question.answer(&talker, &options)).collect()
        };
        Ok((Box::new(answer), ()))
    };
    let (lane, ()) = spawn_model_lane("ask", open).await?;
    let journey = open_journey(&settings).await?;
    for reference in &references {
        if references.len() > 1 {
            print_result(&format!("== {}", reference.id))?;
        }
        if let Err(error) = ask(&journey, &lane, reference).await {
            if is_broken_pipe(&error) {
                return Err(error);
            }
            failed += 1;
            print_status(&format!("{}: {}", redact::id(&reference.id), with_causes(&error)));
        }
    }
    Ok(CommandOutcome::negative_if(failed > 0))
}

/// The question about one picture, and the channel for the text of its answer.
struct Question {
    picture: Picture,
    pieces: mpsc::Sender<String>,
}

impl Question {
    fn answer(&self, talker: &MplugOwl3Chat, options: &ChatQuestion) -> Result<(), RunError> {
        let on_piece = |piece| match self.pieces.blocking_send(piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        talker
            .answer(&self.picture, options, on_piece)
            .map_err(|error| RunError::Batch(error.to_string().into()))
    }
}

/// Prints the answer piece by piece while the model generates it.
async fn ask(
    journey: &Journey,
    lane: &Lane<Question, ()>,
    reference: &ImageReference,
) -> anyhow::Result<()> {
    let picture = match journey.fetch_picture(reference).await {
        Ok(picture) => picture,
        Err(failure) => bail!(failure.with_code()),
    };
    let (pieces, mut received) = mpsc::channel::<String>(PIECE_QUEUE);
    let lane = lane.clone();
    let generation = tokio::spawn(async move { lane.submit(Question { picture, pieces }).await });
    let mut is_empty = true;
    while let Some(piece) = received.recv().await {
        is_empty = false;
        let mut out = io::stdout().lock();
        out.write_all(piece.as_bytes())?;
        out.flush()?;
    }
    let result = generation.await?;
    if result.is_ok() || !is_empty {
        print_result("")?;
    }
    Ok(result?)
}
