//! `dogiqa run`: the worker, from start to graceful stop.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::journey_setup::open_journey;
use crate::cli::memory_plan::MemoryPlan;
use crate::cli::signals::Signals;
use crate::config::Settings;
use crate::stream::worker;
use crate::telemetry::{self, Health, Otlp, metrics};

const HELP: &str = "\
Example: dogiqa run --config dogiqa.toml --set kafka.bootstrap_servers=broker:9092

SIGTERM or SIGINT drains the worker: it accepts no more references, finishes those in flight within
kafka.drain_timeout, commits the offsets and leaves the consumer group. A second signal exits
immediately. Another worker processes the unanswered references again.

Exit codes: 0 stopped by a signal, with or without unfinished work (see the log); 1 the
worker could not start, failed, or was ended by a second signal; 2 wrong usage.";

/// Takes no arguments; everything comes from the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {}

pub(crate) async fn run(
    _args: Args,
    settings: Settings,
    otlp: Option<&Otlp>,
) -> anyhow::Result<CommandOutcome> {
    let metrics =
        metrics::install(otlp.map(Otlp::meter)).context("installing the metrics recorder")?;
    let health = Health::starting();
    let shutdown = CancellationToken::new();
    let server_end = CancellationToken::new();
    let server = &settings.telemetry.server;
    if server.enabled {
        let end = server_end.clone().cancelled_owned();
        tokio::spawn(telemetry::serve(server, metrics, health.clone(), end).await?);
    }
    let mut signals = Signals::listen()?;
    let journey = open_journey(&settings).await?;
    let memory = MemoryPlan::of(&journey, &settings);
    memory.log();
    memory.check()?;

    let work = worker::run(settings.kafka, journey, health, shutdown.clone());
    let start_draining = |signal| {
        tracing::info!(
            signal,
            "stopping: finishing references in flight; a second signal exits immediately"
        );
        shutdown.cancel();
    };
    let consequence = "; references in flight will be repeated";
    let result = signals.drain_on_first_abort_on_second(work, start_draining, consequence).await?;
    server_end.cancel();
    result.context("the worker ended")?;
    Ok(CommandOutcome::Success)
}
