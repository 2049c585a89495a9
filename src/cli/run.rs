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

    let work = worker::run(settings.kafka, journey, health, shutdown.clone());
    let stopping = |signal| {
        tracing::info!(
            signal,
            "stopping: finishing what is in flight, a second signal ends at once"
        );
        shutdown.cancel();
    };
    let result = stop.end_twice(work, stopping, "; what was in flight will be repeated").await?;
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

    /// Does work that a first signal asks to end, by `stopping`, and a second one ends at once, at a `cost`.
    ///
    /// # Errors
    /// Which signal ended it.
    pub(super) async fn end_twice<T>(
        &mut self,
        work: impl Future<Output = T>,
        stopping: impl FnOnce(&'static str),
        cost: &str,
    ) -> anyhow::Result<T> {
        let mut work = std::pin::pin!(work);
        // The work's own end comes first: a signal that arrives with it changes nothing any more.
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            name = self.next() => stopping(name),
        }
        tokio::select! {
            biased;
            done = &mut work => Ok(done),
            name = self.next() => bail!("ended at once by a second {name}{cost}"),
        }
    }
}
