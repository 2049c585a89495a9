//! `dogiqa demo`: the whole road in one process. Real Kafka protocol over loopback, the same worker
//! as `dogiqa run`, sample photos as the load.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::engine::EngineName;
use crate::event::{ImageReference, QualityEvent};
use crate::pipeline::Journey;
use crate::report::table;
use crate::storage::file_uri;
use crate::stream::{AnswerReader, EmbeddedBroker, ReferenceWriter, WorkerAnswer, worker};
use crate::telemetry::Health;

use super::gallery::Gallery;
use super::output::{complain, say};
use super::run::Signals;
use super::{Outcome, build, samples};

/// Partitions of each of the demo's topics.
const PARTITIONS: i32 = 3;

/// Where the report goes, and whether the broker stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dogiqa demo && open demo-report/index.html\n  \
    dogiqa demo --port 9092   # then, elsewhere: kcat -b localhost:9092 -t image-quality -C")]
pub(super) struct Args {
    /// Folder for annotated pictures, events and index.html
    #[arg(long, value_name = "DIR", default_value = "demo-report")]
    report: PathBuf,
    /// Put the embedded broker on this port and keep it and the worker up until Ctrl-C, for your
    /// own Kafka client
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

pub(super) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<Outcome> {
    let photos = args.report.join("photos");
    samples::write(&photos)?;
    settings.storage.allow(&file_uri(&photos))?;
    settings.pipeline.masks_in_events = true;
    if settings.engine.name == EngineName::Auto {
        // The first run is of what needs nothing.
        settings.engine.name = EngineName::Classic;
    }

    let topics = settings.kafka.topics();
    let start = move || EmbeddedBroker::start(&topics, PARTITIONS, args.port);
    let broker = tokio::task::spawn_blocking(start).await??;
    broker.configure(&mut settings.kafka);
    complain(&format!("embedded broker at {}", settings.kafka.bootstrap_servers));

    let journey = build::journey(&settings).await?;
    let shutdown = CancellationToken::new();
    let worker =
        worker::run(settings.kafka.clone(), journey.clone(), Health::starting(), shutdown.clone());
    let worker = tokio::spawn(worker);

    let references = references(&photos);
    let writer = ReferenceWriter::connect(&settings.kafka)?;
    for reference in &references {
        writer.write(reference).await?;
    }
    let result = watch(&settings, &journey, &references, &args.report).await;
    if result.is_ok() && args.port.is_some() {
        stay(&settings).await?;
    }
    shutdown.cancel();
    worker.await?.context("the worker ended")?;
    let page = result?;
    complain(&format!("report: {}", page.display()));
    Ok(Outcome::Done)
}

fn references(photos: &Path) -> Vec<ImageReference> {
    let reference = |(name, _): &(&str, &[u8])| {
        let uri = file_uri(&photos.join(name));
        ImageReference { id: (*name).to_owned(), ..ImageReference::new(uri) }
    };
    samples::PHOTOS.iter().map(reference).collect()
}

/// Prints each answer as it arrives until every reference has one; gives the report's page.
async fn watch(
    settings: &Settings,
    journey: &Journey,
    references: &[ImageReference],
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let kafka = settings.kafka.clone();
    let mut reader = tokio::task::spawn_blocking(move || AnswerReader::connect(&kafka)).await??;
    let mut gallery = Gallery::create(folder)?;
    let patience = settings.pipeline.segment.timeout + settings.pipeline.score.timeout;
    let mut events: Vec<QualityEvent> = Vec::with_capacity(references.len());
    say(&table::header())?;
    while events.len() < references.len() {
        let answer = tokio::time::timeout(patience, reader.next()).await;
        match answer.context("no answer within the time that both stages have")?? {
            WorkerAnswer::Event(event) => {
                say(&table::line(&event))?;
                events.push(*event);
            }
            WorkerAnswer::DeadLetter(letter) => {
                bail!("{} ended as a dead letter: {}", letter.name(), letter.reason.message);
            }
        }
    }
    // In the order of the photos, not of their answers: the next report replaces this one.
    for reference in references {
        let event = events.iter().find(|event| event.reference.id == reference.id);
        gallery.add(journey, reference, event.context("a photo was answered twice")?).await?;
    }
    gallery.finish()
}

async fn stay(settings: &Settings) -> anyhow::Result<()> {
    let servers = &settings.kafka.bootstrap_servers;
    complain(&format!("the broker stays at {servers} until Ctrl-C; try:"));
    complain(&format!("  kcat -b {servers} -t {} -C", settings.kafka.output_topic));
    complain(&format!("  kcat -b {servers} -t {} -P", settings.kafka.input_topic));
    Signals::listen()?.next().await;
    Ok(())
}
