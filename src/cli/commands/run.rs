//! `dogiqa run`: the worker, from start to graceful stop.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::journey_setup::{open_cached_journey, open_shadow};
use crate::cli::memory_plan::MemoryPlan;
use crate::cli::signals::Signals;
use crate::config::Settings;
use crate::serve::Server;
use crate::stream::worker;
use crate::telemetry::{self, Health, Otlp, metrics};

const HELP: &str = "\
Example: dogiqa run --config dogiqa.toml --set kafka.bootstrap_servers=broker:9092

SIGTERM or SIGINT drains the worker: it accepts no more references, finishes those in flight within
kafka.drain_timeout, commits the offsets and leaves the consumer group. A second signal exits
immediately. Another worker processes the unanswered references again.

With --serve the process also answers HTTP requests, as `dogiqa serve` does; see docs/serve.md.

Exit codes: 0 stopped by a signal, with or without unfinished work (see the log); 1 the
worker could not start, failed, or was ended by a second signal; 2 wrong usage.";

/// Everything else comes from the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Also score images over HTTP, like `dogiqa serve`; requests come before the backlog
    #[arg(long)]
    serve: bool,
}

pub(crate) async fn run(
    args: Args,
    settings: Settings,
    otlp: Option<&Otlp>,
) -> anyhow::Result<CommandOutcome> {
    if args.serve {
        settings.serve.access().context("serve")?;
    }
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
    let journey = open_cached_journey(&settings).await?;
    let shadow = open_shadow(&settings, &journey).await?;
    let of_shadow = shadow.as_ref().map(|shadow| shadow.memory(&settings.kafka));
    let of_requests = args.serve.then(|| settings.serve.memory());
    let parts = settings
        .kafka
        .memory()
        .into_iter()
        .chain(of_requests)
        .chain(of_shadow.into_iter().flatten());
    let memory = MemoryPlan::new(&journey, &settings, parts);
    memory.log();
    memory.check()?;
    let api = if args.serve { Some(Server::bind(settings.serve, &journey).await?) } else { None };

    // If one of the two ends, the other finishes its work in flight.
    let worker = async {
        let work =
            worker::run_with_shadow(settings.kafka, journey, shadow, health, shutdown.clone());
        let ended = Box::pin(work).await;
        shutdown.cancel();
        ended
    };
    let requests = async {
        let Some(api) = api else { return Ok(()) };
        let ended = api.run(shutdown.clone()).await;
        shutdown.cancel();
        ended.map(drop)
    };
    let work = async { tokio::join!(worker, requests) };
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
    let (worker, requests) = result;
    worker.context("the worker ended")?;
    requests.context("the HTTP API ended")?;
    Ok(CommandOutcome::Success)
}
