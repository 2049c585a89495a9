//! Limits of one stage, shared by all images.

use std::time::Duration;

use tracing::Instrument;

use crate::pipeline::error::JourneyError;
use crate::pipeline::settings::StageLimits;
use crate::priority::{Priority, PrioritySemaphore};
use crate::storage::{StoreFailure, StoreFault};
use crate::telemetry::{Stage, metrics, spans};

/// Limits a stage's concurrency and its time per image.
#[derive(Debug)]
pub(crate) struct StageLimiter {
    stage: Stage,
    slots: PrioritySemaphore,
    timeout: Duration,
}

impl StageLimiter {
    pub(crate) fn new(stage: Stage, limits: &StageLimits) -> Self {
        let slots = PrioritySemaphore::new(limits.images.get() as u64);
        Self { stage, slots, timeout: limits.timeout }
    }

    /// Returns the maximum time of an image in the stage.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for a slot, then does the work without a time limit. Returns its output and duration.
    ///
    /// For stages on a device: the engine limits the time there, so that waiting for it does not
    /// count. Limit other steps with [`within_timeout`](Self::within_timeout).
    pub(crate) async fn run<T>(
        &self,
        priority: Priority,
        work: impl Future<Output = Result<T, JourneyError>>,
    ) -> Result<(T, Duration), JourneyError> {
        let _slot = self.slots.acquire(1, priority).await;
        let timer = metrics::stage_entered(self.stage);
        let span = spans::stage_span(self.stage);
        let output = work.instrument(span.clone()).await;
        let output = output.inspect_err(|failure| spans::mark_failed(&span, failure.code))?;
        Ok((output, timer.elapsed()))
    }

    /// Waits for a slot, then does the work within the stage's timeout. Returns its output and
    /// duration.
    pub(crate) async fn run_within_timeout<T>(
        &self,
        priority: Priority,
        work: impl Future<Output = Result<T, JourneyError>>,
    ) -> Result<(T, Duration), JourneyError> {
        self.run(priority, self.within_timeout(work)).await
    }

    /// Does the work within the stage's timeout.
    pub(crate) async fn within_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, JourneyError>>,
    ) -> Result<T, JourneyError> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(self.timed_out()))
    }

    fn timed_out(&self) -> JourneyError {
        let code = match self.stage {
            Stage::Fetch => "fetch.timeout",
            Stage::Decode => "decode.timeout",
            Stage::Segment => "segment.timeout",
            Stage::Score => "score.timeout",
            Stage::Measure => "measure.timeout",
            Stage::Reference | Stage::Publish => "pipeline.timeout",
        };
        let (stage, limit) = (self.stage, self.timeout);
        let message = format!(
            "{stage} took longer than {}; raise pipeline.{stage}.timeout or lower pipeline.{stage}.images",
            humantime::format_duration(limit)
        );
        let permanent = JourneyError::permanent(stage, code, message);
        if stage != Stage::Fetch {
            return permanent;
        }
        // The store did not answer in time, which is no fault of the image.
        let fault = StoreFault::Unavailable;
        let store = Some(StoreFailure { fault, last_read: None, retry_after: None });
        JourneyError { transient: true, store, ..permanent }
    }
}
