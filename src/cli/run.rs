//! `dogiqa run`: the worker, from start to graceful stop.

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::stream::worker;
use crate::telemetry::{self, Health, metrics};

use super::memory::MemoryPlan;
use super::{Outcome, build};

const HELP: &str = "\
Example: dogiqa run --config dogiqa.toml --set kafka.bootstrap_servers=broker:9092

SIGTERM and SIGINT drain: no more references are taken in, what is in flight is finished within
kafka.drain_timeout, offsets are committed, the group is left. A second signal ends at once.
What was not answered then is repeated by another worker.

Exit codes: 0 stopped by a signal, with work left or not (the log says so); 1 the worker could not
start or go on, or was ended by a second signal; 2 usage.";

/// Nothing beside the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {}

pub(super) async fn run(_args: Args, settings: Settings) -> anyhow::Result<Outcome> {
    let metrics = metrics::install().context("installing the metrics recorder")?;
    let health = Health::starting();
    let shutdown = CancellationToken::new();
    let server_end = CancellationToken::new();
    let server = &settings.telemetry.server;
    if server.enabled {
        let end = server_end.clone().cancelled_owned();
        tokio::spawn(telemetry::serve(server, metrics, health.clone(), end).await?);
    }
    let mut stop = Signals::listen()?;
    let journey = build::journey(&settings).await?;
    let memory = MemoryPlan::of(&journey, &settings);
    memory.tell();
    memory.check()?;

    let mut work = std::pin::pin!(worker::run(settings.kafka, journey, health, shutdown.clone()));
    // The worker's own end comes first: a signal that arrives with it changes nothing any more.
    let result = tokio::select! {
        biased;
        result = &mut work => result,
        name = stop.next() => {
            tracing::info!(signal = name, "stopping: finishing what is in flight, a second signal ends at once");
            shutdown.cancel();
            tokio::select! {
                biased;
                result = &mut work => result,
                name = stop.next() => bail!("ended at once by a second {name}; what was in flight will be repeated"),
            }
        }
    };
    server_end.cancel();
    result.context("the worker ended")?;
    Ok(Outcome::Done)
}

/// The signals that ask a process to end.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    /// The name of the next signal. Cancel safe.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
