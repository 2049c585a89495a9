//! SIGTERM and SIGINT: the first signal drains, a second one exits immediately.

use std::pin::pin;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A listener for SIGTERM and SIGINT. While it exists, neither signal ends the process by itself.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next signal and returns its name. Cancel safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for `work`. The first signal calls `start_draining`, which asks the work to finish
    /// early; a second signal drops the work. `work` must yield regularly, because it is polled
    /// before the signals are.
    ///
    /// # Errors
    /// Fails on the second signal. The message names it and ends with `consequence`.
    pub(crate) async fn drain_on_first_abort_on_second<T>(
        &mut self,
        work: impl Future<Output = T>,
        start_draining: impl FnOnce(&'static str),
        consequence: &str,
    ) -> anyhow::Result<T> {
        let mut work = pin!(work);
        // Finished work takes precedence: a signal that arrives at the same time changes nothing.
        tokio::select! {
            biased;
            result = &mut work => return Ok(result),
            name = self.next() => start_draining(name),
        }
        tokio::select! {
            biased;
            result = &mut work => Ok(result),
            name = self.next() => bail!("ended at once by a second {name}{consequence}"),
        }
    }
}
