//! SIGTERM and SIGINT: the first signal drains, a second one exits immediately.

use std::pin::pin;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::coop::unconstrained;

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
    /// early; a second signal drops the work. `work` must yield regularly, for example with
    /// `tokio::task::coop::consume_budget`.
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
        // Finished work comes first: a signal that arrives with its end changes nothing. Work that
        // is always ready uses up the task's budget, so the signals are polled without it.
        tokio::select! {
            biased;
            result = &mut work => return Ok(result),
            name = unconstrained(self.next()) => start_draining(name),
        }
        tokio::select! {
            biased;
            result = &mut work => Ok(result),
            name = unconstrained(self.next()) => {
                bail!("ended at once by a second {name}{consequence}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};
    use std::time::{Duration, Instant};

    use tokio::task::coop::consume_budget;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn send_sigterm_to_this_process() {
        let is_sent = Command::new("kill").args(["-TERM", &id().to_string()]).status().unwrap();
        assert!(is_sent.success());
    }

    #[tokio::test]
    async fn signals_reach_work_that_is_always_ready() {
        let mut signals = Signals::listen().unwrap();
        let stop = CancellationToken::new();
        let deadline = Instant::now() + PATIENCE;
        let drained = async {
            while !stop.is_cancelled() {
                assert!(Instant::now() < deadline, "the first signal starts draining");
                consume_budget().await;
            }
        };
        send_sigterm_to_this_process();
        let drain = |name| {
            assert_eq!(name, "SIGTERM");
            stop.cancel();
        };
        signals.drain_on_first_abort_on_second(drained, drain, "").await.unwrap();

        let endless = async {
            loop {
                assert!(Instant::now() < deadline, "the second signal drops the work");
                consume_budget().await;
            }
        };
        send_sigterm_to_this_process();
        let ended: anyhow::Result<()> = signals
            .drain_on_first_abort_on_second(endless, |_| send_sigterm_to_this_process(), "; lost")
            .await;
        let message = ended.unwrap_err().to_string();
        assert_eq!(message, "ended at once by a second SIGTERM; lost");
    }
}
