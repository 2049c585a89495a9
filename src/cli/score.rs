//! `dogiqa score`: the journey without Kafka.

use std::path::PathBuf;

use anyhow::Context;
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use crate::config::Settings;
use crate::event::{ImageReference, QualityEvent};
use crate::pipeline::JourneyError;
use crate::storage::shown_id;

use super::gallery::Gallery;
use super::inputs::references;
use super::output::complain;
use super::score_output::{Format, Printer};
use super::{Outcome, build};

/// Images on the road at once; the budgets of the pipeline bound their memory.
const IMAGES_AT_ONCE: usize = 32;

/// What to score and how to show it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dogiqa score photos/ 'more/*.jpg'\n  \
    dogiqa score --format jsonl s3://bucket/key.jpg | jq .score\n  \
    find . -name '*.png' | dogiqa score --fail-below 3.5 -")]
pub(super) struct Args {
    /// Files, folders, globs, URIs; `-` reads an image or a list of them from standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Exit with 1 if any image scores below this
    #[arg(long, value_name = "SCORE")]
    fail_below: Option<f64>,
    /// Write a folder to look through: annotated pictures, events and index.html
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

pub(super) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<Outcome> {
    let piped = TempDir::new().context("a temporary folder")?;
    let references = references(&args.images, &piped, &mut settings)?;
    settings.pipeline.masks_in_events |= args.report.is_some();
    let journey = build::journey(&settings).await?;
    let mut gallery = args.report.as_deref().map(Gallery::create).transpose()?;

    let mut tally = Tally { fail_below: args.fail_below, ..Tally::default() };
    let mut printer = Printer::new(args.format);
    // Hidden by itself where standard error is no terminal.
    let progress = ProgressBar::new(references.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}")?);
    let assess = |reference: ImageReference| {
        let journey = &journey;
        async move { (reference.clone(), journey.assess(reference, None).await) }
    };
    let mut results = std::pin::pin!(stream::iter(references).map(assess).buffered(IMAGES_AT_ONCE));
    while let Some((reference, result)) = results.next().await {
        progress.inc(1);
        let shown = progress.suspend(|| show(&reference, &result, &mut printer));
        shown?;
        tally.count(&result);
        if let (Some(gallery), Ok(event)) = (&mut gallery, &result) {
            gallery.add(&journey, &reference, event).await?;
        }
    }
    progress.finish_and_clear();
    printer.finish()?;
    if let Some(gallery) = gallery {
        complain(&format!("report: {}", gallery.finish()?.display()));
    }
    Ok(tally.outcome())
}

fn show(
    reference: &ImageReference,
    result: &Result<QualityEvent, JourneyError>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    match result {
        Ok(event) => printer.print(event)?,
        Err(failure) => {
            complain(&format!("{}: {}", shown_id(&reference.id), failure.with_code()));
        }
    }
    Ok(())
}

/// What the exit code depends on.
#[derive(Debug, Default)]
struct Tally {
    scored: usize,
    failed: usize,
    below: usize,
    fail_below: Option<f64>,
}

impl Tally {
    fn count(&mut self, result: &Result<QualityEvent, JourneyError>) {
        match result {
            Ok(event) => {
                self.scored += 1;
                self.below += usize::from(self.fail_below.is_some_and(|bar| event.score < bar));
            }
            Err(_) => self.failed += 1,
        }
    }

    fn outcome(&self) -> Outcome {
        let Self { scored, failed, below, fail_below } = self;
        if *failed > 0 {
            complain(&format!("{scored} scored, {failed} failed"));
        }
        if let Some(bar) = fail_below.filter(|_| *below > 0) {
            complain(&format!("{below} of {scored} below {bar}"));
        }
        if failed + below > 0 { Outcome::Negative } else { Outcome::Done }
    }
}
