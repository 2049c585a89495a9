//! `dogiqa serve`: the HTTP API without Kafka.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::journey_setup::open_cached_journey;
use crate::cli::memory_plan::MemoryPlan;
use crate::cli::signals::Signals;
use crate::config::Settings;
use crate::engine::Engine;
use crate::serve::Server;
use crate::telemetry::{self, Health, NotReady, Otlp, metrics};

const HELP: &str = "\
Example: dogiqa serve --config dogiqa.toml --set serve.listen=127.0.0.1:8080
         curl --data-binary @photo.jpg 'http://127.0.0.1:8080/v1/score?policy=gallery'

`dogiqa run --serve` does the same next to the worker, with one engine for both.

SIGTERM or SIGINT stops the server: it refuses new requests with 503 and finishes those in flight
within serve.drain_timeout. A second signal exits immediately.

Exit codes: 0 stopped by a signal; 1 the server could not start, failed, or was ended by a second
signal; 2 wrong usage.";

/// Interval at which the readiness follows the scoring server.
const READINESS_EVERY: Duration = Duration::from_millis(100);

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
    let journey = open_cached_journey(&settings).await?;
    let memory = MemoryPlan::new(&journey, &settings, [settings.serve.memory()]);
    memory.log();
    memory.check()?;

    let server = Server::bind(settings.serve, &journey).await?;
    let shutdown = CancellationToken::new();
    let start_draining = |signal| {
        tracing::info!(signal, "stopping; a second signal exits immediately");
        health.end();
        shutdown.cancel();
    };
    let readiness = follow_engine(&health, journey.engine(), &shutdown);
    let work = async {
        tokio::select! {
            // The server ends the command; the readiness has no end.
            biased;
            ended = server.run(shutdown.clone()) => ended,
            never = readiness => match never {},
        }
    };
    let consequence = "; requests in flight have no answer";
    let result = signals.drain_on_first_abort_on_second(work, start_draining, consequence).await?;
    health.end();
    server_end.cancel();
    result.context("the HTTP API ended")?;
    Ok(CommandOutcome::Success)
}

/// Reports the server as ready while its engine can rate, until it stops. Requests are not held
/// during an outage, so others should get them.
async fn follow_engine(
    health: &Health,
    engine: &Engine,
    shutdown: &CancellationToken,
) -> Infallible {
    let mut interval = tokio::time::interval(READINESS_EVERY);
    loop {
        interval.tick().await;
        // The reason for stopping stays.
        if shutdown.is_cancelled() {
            return std::future::pending().await;
        }
        let outage = engine.server().and_then(|server| server.outage());
        let unavailable = outage.map(|outage| {
            let text = format!("the scoring server is unavailable; requests get 503: {outage}");
            NotReady::now("server_unavailable", text)
        });
        health.set(unavailable.into_iter().collect());
    }
}
