//! `dogiqa serve`: the HTTP API without Kafka.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::journey_setup::{open_cache, open_journey};
use crate::cli::memory_plan::MemoryPlan;
use crate::cli::signals::Signals;
use crate::config::Settings;
use crate::serve::Server;
use crate::telemetry::{self, Health, Otlp, metrics};

const HELP: &str = "\
Example: dogiqa serve --config dogiqa.toml --set serve.listen=127.0.0.1:8080
         curl --data-binary @photo.jpg 'http://127.0.0.1:8080/v1/score?policy=gallery'

`dogiqa run --serve` does the same next to the worker, with one engine for both.

SIGTERM or SIGINT stops the server: it refuses new requests with 503 and finishes those in flight
within serve.drain_timeout. A second signal exits immediately.

Exit codes: 0 stopped by a signal; 1 the server could not start, failed, or was ended by a second
signal; 2 wrong usage.";

/// Takes no arguments; everything comes from the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {}

pub(crate) async fn run(
    _args: Args,
    settings: Settings,
    otlp: Option<&Otlp>,
) -> anyhow::Result<CommandOutcome> {
    settings.serve.access().context("serve")?;
    let metrics =
        metrics::install(otlp.map(Otlp::meter)).context("installing the metrics recorder")?;
    let health = Health::starting();
    let server_end = CancellationToken::new();
    let telemetry = &settings.telemetry.server;
    if telemetry.enabled {
        let end = server_end.clone().cancelled_owned();
        tokio::spawn(telemetry::serve(telemetry, metrics, health.clone(), end).await?);
    }
    let mut signals = Signals::listen()?;
    let mut journey = open_journey(&settings).await?;
    if let Some(cache) = open_cache(&settings).await?.context("cache")? {
        journey = journey.with_cache(cache);
    }
    let memory = MemoryPlan::new(&journey, &settings, [settings.serve.memory()]);
    memory.log();
    memory.check()?;

    let server = Server::bind(settings.serve, &journey).await?;
    let shutdown = CancellationToken::new();
    health.set(Vec::new());
    let start_draining = |signal| {
        tracing::info!(signal, "stopping; a second signal exits immediately");
        health.end();
        shutdown.cancel();
    };
    let work = server.run(shutdown.clone());
    let consequence = "; requests in flight have no answer";
    let result = signals.drain_on_first_abort_on_second(work, start_draining, consequence).await?;
    health.end();
    server_end.cancel();
    result.context("the HTTP API ended")?;
    Ok(CommandOutcome::Success)
}
