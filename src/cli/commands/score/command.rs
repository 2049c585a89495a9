//! The arguments of `dogiqa score` and its run over the images.

use std::path::PathBuf;

use anyhow::Context;
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use crate::cache::CacheError;
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::score::event_printer::{EventFormat, EventPrinter};
use crate::cli::image_arguments::{ResolvedImages, resolve_references};
use crate::cli::journey_setup::{IN_FLIGHT_MAX, open_cache, open_journey};
use crate::cli::report_folder::ReportFolder;
use crate::cli::terminal::print_status;
use crate::config::Settings;
use crate::event::{ImageReference, QualityEvent};
use crate::metrics::Metric;
use crate::pipeline::JourneyError;
use crate::redact;

const EXAMPLES: &str = "Examples:\n  dogiqa score photos/ 'more/*.jpg'\n  \
    dogiqa score --format jsonl s3://bucket/key.jpg | jq .score\n  \
    find . -name '*.png' | dogiqa score --fail-below 3.5 -\n  \
    dogiqa score --measure piqe,niqe --format csv photos/\n\n\
    Exit codes: 0 every image was scored; 1 an image failed or is below --fail-below; 2 wrong usage.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files, folders, globs or URIs; `-` reads an image, or a list with one path or URI per line,
    /// from standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = EventFormat::Table)]
    format: EventFormat,
    /// Also measure the images by these hand-crafted metrics: `niqe`, `brisque`, `biqi`,
    /// `bliinds2`, `piqe`. Sets `pipeline.measures`. The formats `json`, `jsonl` and `csv` show the
    /// values; the parameters come from `dogiqa models pull`
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    measure: Vec<Metric>,
    /// Exit with code 1 if any image scores below this
    #[arg(long, value_name = "SCORE")]
    fail_below: Option<f64>,
    /// Write annotated pictures, events and an index.html into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<CommandOutcome> {
    let stdin_folder = TempDir::new().context("a temporary folder")?;
    let ResolvedImages { references, failed } =
        resolve_references(&args.images, &stdin_folder, &mut settings)?;
    settings.pipeline.masks_in_events |= args.report.is_some();
    if !args.measure.is_empty() {
        settings.pipeline.measures.clone_from(&args.measure);
    }
    let mut journey = open_journey(&settings).await?;
    match open_cache(&settings).await? {
        Ok(Some(cache)) => journey = journey.with_cache(cache),
        Ok(None) => {}
        // A person may score by hand with the configuration of a running worker.
        Err(CacheError::InUse { path }) => {
            print_status(&format!("cache: {} is in use; scoring without it", path.display()));
        }
        Err(error) => return Err(error).context("cache"),
    }
    let mut report = args.report.as_deref().map(ReportFolder::create).transpose()?;

    let mut tally = Tally { failed, fail_below: args.fail_below, ..Tally::default() };
    let mut printer = EventPrinter::new(args.format);
    // indicatif hides the bar if standard error is not a terminal.
    let progress = ProgressBar::new(references.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}")?);
    let assess = |reference: ImageReference| {
        let journey = &journey;
        async move { (reference.clone(), journey.assess(reference, None).await) }
    };
    let mut results = std::pin::pin!(stream::iter(references).map(assess).buffered(IN_FLIGHT_MAX));
    while let Some((reference, result)) = results.next().await {
        progress.inc(1);
        progress.suspend(|| print(&reference, &result, &mut printer))?;
        tally.count(&result);
        if let (Some(report), Ok(event)) = (&mut report, &result) {
            report.add(&journey, &reference, event).await?;
        }
    }
    progress.finish_and_clear();
    printer.finish()?;
    if let Some(report) = report {
        print_status(&format!("report: {}", report.finish()?.display()));
    }
    Ok(tally.outcome())
}

fn print(
    reference: &ImageReference,
    result: &Result<QualityEvent, JourneyError>,
    printer: &mut EventPrinter,
) -> anyhow::Result<()> {
    match result {
        Ok(event) => printer.print(event)?,
        Err(failure) => {
            print_status(&format!("{}: {}", redact::id(&reference.id), failure.with_code()));
        }
    }
    Ok(())
}

/// The counts that decide the exit code.
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
                self.below += usize::from(self.fail_below.is_some_and(|limit| event.score < limit));
            }
            Err(_) => self.failed += 1,
        }
    }

    /// Prints the counts of failures and returns the outcome.
    fn outcome(&self) -> CommandOutcome {
        let Self { scored, failed, below, fail_below } = self;
        if *failed > 0 {
            print_status(&format!("{scored} scored, {failed} failed"));
        }
        if let Some(limit) = fail_below.filter(|_| *below > 0) {
            print_status(&format!("{below} of {scored} below {limit}"));
        }
        CommandOutcome::negative_if(failed + below > 0)
    }
}
