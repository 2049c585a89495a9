//! The arguments of `dogiqa enqueue` and its run from source to summary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use futures::stream::{Stream, StreamExt};
use tokio::task::coop;
use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::enqueue::planned_steps::{PlannedStep, limit_rate, plan_steps};
use crate::cli::commands::enqueue::progress_recorder::ProgressRecorder;
use crate::cli::commands::enqueue::reference_check::ReferenceCheck;
use crate::cli::commands::enqueue::reference_sink::{RecordKey, ReferenceSink};
use crate::cli::commands::enqueue::reference_source::ReferenceSource;
use crate::cli::commands::enqueue::saved_progress::{CommandIdentity, SavedProgress};
use crate::cli::signals::Signals;
use crate::cli::terminal::print_status;
use crate::cli::time_and_rate::Rate;
use crate::config::Settings;
use crate::storage::Stores;
use crate::stream::{ReferenceWriter, probe_input};

/// Maximum number of references that are sent and not yet acknowledged.
const IN_FLIGHT_MAX: usize = 500;

const HELP: &str = "Examples:\n  dogiqa enqueue photos/ --policy gallery\n  \
    dogiqa enqueue s3://user-uploads/2026/11/ --rate 200/s --state november.json\n  \
    jq -c '{uri: .url, id: .sku}' catalogue.jsonl | dogiqa enqueue - --metadata batch=7\n\n\
    With --state, an interrupted run continues when the same command is run again. After a crash, at most \
    1000 references are sent twice; after a signal, none. A reference that is sent twice keeps its id, so \
    reference.id identifies duplicate answers.\n\n\
    Exit codes: 0 everything was sent; 1 a reference was refused, or the command ended early; \
    2 wrong usage.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// A folder of images; a list (a file or `-`) with a URI or a JSON reference per line; or a
    /// bucket prefix that ends in a slash
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Policy for references without one
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Maximum rate per second, minute or hour: 200/s, 12/m, 1000/h
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// Maximum number of references to send, including earlier runs with the same --state
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print what would be sent as JSON lines, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Key of the Kafka record, which decides its partition
    #[arg(long, value_enum, default_value_t = RecordKey::Id)]
    key: RecordKey,
    /// Metadata to add to references that do not set this key. May be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    metadata: Vec<(String, String)>,
    /// File that saves the progress of this command
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Do not check references against the allow-lists and policies of this configuration
    #[arg(long)]
    unchecked: bool,
}

pub(crate) async fn run(args: Args, settings: Settings) -> anyhow::Result<CommandOutcome> {
    settings.kafka.validate()?;
    let mut signals = Signals::listen()?;
    let source = ReferenceSource::parse(&args.source)?;
    if source == ReferenceSource::StandardInput && args.state.is_some() {
        bail!("--state needs a list that can be read again; name a file instead of `-`");
    }
    let metadata: BTreeMap<_, _> = args.metadata.iter().cloned().collect();
    let identity = CommandIdentity {
        source: source.name(),
        brokers: settings.kafka.bootstrap_servers.clone(),
        topic: settings.kafka.input_topic.clone(),
        key: args.key.name().to_owned(),
        policy: args.policy.clone(),
        metadata: metadata.clone(),
    };
    let progress = match &args.state {
        Some(path) => SavedProgress::load(path, identity)?,
        None => SavedProgress::new(identity),
    };
    let stores = Stores::new(&settings.storage)?;
    let items = source.open(&stores, progress.after.clone())?;
    let check = ReferenceCheck {
        policy: args.policy,
        metadata,
        policies: settings.method.policies,
        stores,
        is_unchecked: args.unchecked,
    };
    let sink = if args.dry_run {
        ReferenceSink::DryRun
    } else {
        let kafka = settings.kafka.clone();
        let probe = tokio::task::spawn_blocking(move || probe_input(&kafka));
        tokio::select! {
            biased;
            result = probe => result??,
            name = signals.next() => bail!("{name}: nothing was sent"),
        }
        let writer = ReferenceWriter::connect(&settings.kafka)?;
        ReferenceSink::Kafka { writer, key: args.key }
    };
    let remaining = args.limit.map_or(u64::MAX, |limit| limit.saturating_sub(progress.counts.sent));
    let steps = limit_rate(plan_steps(items, check, remaining), args.rate);
    let mut recorder = ProgressRecorder::new(progress, args.state.filter(|_| !args.dry_run))?;

    let stop = CancellationToken::new();
    let spinner = recorder.spinner.clone();
    let start_draining = |name| {
        let notice =
            format!("{name}: waiting for acknowledgements; a second signal exits immediately");
        spinner.suspend(|| print_status(&notice));
        stop.cancel();
    };
    let work = send_all(steps, &sink, &mut recorder, &stop, settings.kafka.drain_timeout);
    let consequence = "; unacknowledged references may have been sent";
    let sent = signals.drain_on_first_abort_on_second(work, start_draining, consequence).await;
    if let Err(error) = sent.flatten() {
        recorder.save()?;
        return Err(error);
    }
    recorder.finish(stop.is_cancelled())
}

/// Carries out the steps until they end or `stop` is cancelled. From then on the steps in flight
/// have `drain_timeout` to finish.
async fn send_all(
    steps: impl Stream<Item = anyhow::Result<PlannedStep>>,
    sink: &ReferenceSink,
    recorder: &mut ProgressRecorder,
    stop: &CancellationToken,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let mut drain_deadline = pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(drain_timeout).await;
    });
    let mut completed_steps = pin!(
        steps
            .take_until(stop.cancelled())
            .map(|step| async move { sink.carry_out(step?).await })
            .buffered(IN_FLIGHT_MAX)
    );
    loop {
        // Yields to the signals, because a source may always be ready.
        coop::consume_budget().await;
        let completed = tokio::select! {
            biased;
            () = &mut drain_deadline => {
                bail!(
                    "the brokers did not acknowledge all references in time; the rest may have \
                     been sent"
                );
            }
            completed = completed_steps.next() => completed,
        };
        match completed {
            Some(step) => recorder.record(step?)?,
            None => return Ok(()),
        }
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form key=value")),
    }
}
