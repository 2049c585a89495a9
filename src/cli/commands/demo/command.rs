//! The arguments of `dogiqa demo` and its run. It uses the Kafka protocol over loopback and the
//! same worker as `dogiqa run`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::demo::sample_photos::{SAMPLE_PHOTOS, write_sample_photos};
use crate::cli::journey_setup::open_journey;
use crate::cli::report_folder::ReportFolder;
use crate::cli::signals::Signals;
use crate::cli::terminal::{print_result, print_status};
use crate::config::Settings;
use crate::engine::EngineName;
use crate::event::{ImageReference, QualityEvent};
use crate::pipeline::Journey;
use crate::report::table;
use crate::storage::file_uri;
use crate::stream::{AnswerReader, EmbeddedBroker, ReferenceWriter, WorkerAnswer, worker};
use crate::telemetry::Health;

/// Number of partitions of each topic.
const PARTITIONS: i32 = 3;

const EXAMPLES: &str = "Examples:\n  dogiqa demo && open demo-report/index.html\n  \
    dogiqa demo --port 9092   # in another terminal: kcat -b localhost:9092 -t image-quality -C";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder for annotated pictures, events and an index.html
    #[arg(long, value_name = "DIR", default_value = "demo-report")]
    report: PathBuf,
    /// Run the embedded broker on this port, and keep broker and worker running until Ctrl-C, for
    /// your own Kafka client
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

pub(crate) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<CommandOutcome> {
    let photos = args.report.join("photos");
    write_sample_photos(&photos)?;
    settings.storage.allow(&file_uri(&photos))?;
    settings.pipeline.masks_in_events = true;
    if settings.engine.name == EngineName::Auto {
        // The default engine of the demo needs no model files.
        settings.engine.name = EngineName::Classic;
    }

    let topics = settings.kafka.topics_with_shadow();
    let start = move || EmbeddedBroker::start(&topics, PARTITIONS, args.port);
    let broker = tokio::task::spawn_blocking(start).await??;
    broker.configure(&mut settings.kafka);
    print_status(&format!("embedded broker at {}", settings.kafka.bootstrap_servers));

    let journey = open_journey(&settings).await?;
    let shutdown = CancellationToken::new();
    let worker =
        worker::run(settings.kafka.clone(), journey.clone(), Health::starting(), shutdown.clone());
    let worker = tokio::spawn(worker);

    let references = references(&photos);
    let writer = ReferenceWriter::connect(&settings.kafka)?;
    for reference in &references {
        writer.write(reference).await?;
    }
    let result = collect_answers(&settings, &journey, &references, &args.report).await;
    if result.is_ok() && args.port.is_some() {
        wait_for_signal(&settings).await?;
    }
    shutdown.cancel();
    worker.await?.context("the worker ended")?;
    let page = result?;
    print_status(&format!("report: {}", page.display()));
    Ok(CommandOutcome::Success)
}

fn references(photos: &Path) -> Vec<ImageReference> {
    let reference = |(name, _): &(&str, &[u8])| {
        let uri = file_uri(&photos.join(name));
        ImageReference { id: (*name).to_owned(), ..ImageReference::new(uri) }
    };
    SAMPLE_PHOTOS.iter().map(reference).collect()
}

/// Prints each answer as it arrives until every reference has one. Writes the report and returns
/// the path of its page.
async fn collect_answers(
    settings: &Settings,
    journey: &Journey,
    references: &[ImageReference],
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let kafka = settings.kafka.clone();
    let mut reader = tokio::task::spawn_blocking(move || AnswerReader::connect(&kafka)).await??;
    let mut report = ReportFolder::create(folder)?;
    let patience = settings.pipeline.segment.timeout + settings.pipeline.score.timeout;
    let mut events: Vec<QualityEvent> = Vec::with_capacity(references.len());
    print_result(&table::header())?;
    while events.len() < references.len() {
        let answer = tokio::time::timeout(patience, reader.next()).await;
        match answer.context("no answer within the timeouts of both stages")?? {
            WorkerAnswer::Event(event) => {
                print_result(&table::line(&event))?;
                events.push(*event);
            }
            WorkerAnswer::DeadLetter(letter) => {
                bail!("{} ended as a dead letter: {}", letter.name(), letter.reason.message);
            }
        }
    }
    // In the order of the photos rather than of the answers, so that the next run replaces each
    // file.
    for reference in references {
        let event = events.iter().find(|event| event.reference.id == reference.id);
        report.add(journey, reference, event.context("a photo was answered twice")?).await?;
    }
    report.finish()
}

async fn wait_for_signal(settings: &Settings) -> anyhow::Result<()> {
    let servers = &settings.kafka.bootstrap_servers;
    print_status(&format!("the broker stays at {servers} until Ctrl-C; try:"));
    print_status(&format!("  kcat -b {servers} -t {} -C", settings.kafka.output_topic));
    print_status(&format!("  kcat -b {servers} -t {} -P", settings.kafka.input_topic));
    Signals::listen()?.next().await;
    Ok(())
}
