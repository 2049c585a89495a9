//! Admits requests to the pipeline: a number of slots, and a queue with a limit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::serve::settings::Settings;
use crate::telemetry::metrics;

/// Weight of the latest request in the mean time of a request.
const MEAN_WEIGHT: f64 = 0.1;
/// Longest `retry-after` of a full queue, in seconds.
const RETRY_AFTER_MAX_SECONDS: f64 = 60.0;

/// The slots of the requests, and their queue.
#[derive(Debug)]
pub(crate) struct Admission {
    slots: Semaphore,
    slots_max: usize,
    queue_max: usize,
    waiting: AtomicUsize,
    /// Mean time that a request holds its slot, in seconds.
    mean_seconds: Mutex<Option<f64>>,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull {
    /// Time in which the queue empties at the present pace, in whole seconds.
    pub(crate) retry_after: Duration,
}

/// A slot in the pipeline, returned when dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    admission: &'a Admission,
    since: Instant,
    _permit: SemaphorePermit<'a>,
}

/// A place in the queue.
struct Place<'a> {
    admission: &'a Admission,
}

impl Admission {
    pub(crate) fn new(settings: &Settings) -> Self {
        let slots_max = settings.requests_max.get();
        Self {
            slots: Semaphore::new(slots_max.min(Semaphore::MAX_PERMITS)),
            slots_max,
            queue_max: settings.queue_max,
            waiting: AtomicUsize::new(0),
            mean_seconds: Mutex::new(None),
        }
    }

    /// Waits for a slot, in the order of arrival.
    ///
    /// Cancel safe: a dropped future leaves the queue.
    ///
    /// # Errors
    /// Fails at once if the queue is full.
    pub(crate) async fn admit(&self) -> Result<Slot<'_>, QueueFull> {
        if let Ok(permit) = self.slots.try_acquire() {
            return Ok(self.slot(permit));
        }
        let _place = self.place().ok_or_else(|| QueueFull { retry_after: self.retry_after() })?;
        let permit = self.slots.acquire().await.expect("the slots are never closed");
        Ok(self.slot(permit))
    }

    /// Returns a place in the queue, or `None` if it is full.
    fn place(&self) -> Option<Place<'_>> {
        let one_more = |waiting: usize| (waiting < self.queue_max).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        metrics::request_queued();
        Some(Place { admission: self })
    }

    fn slot<'a>(&'a self, permit: SemaphorePermit<'a>) -> Slot<'a> {
        Slot { admission: self, since: Instant::now(), _permit: permit }
    }

    fn retry_after(&self) -> Duration {
        let mean = self.mean_seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let rounds = (self.queue_max + 1) as f64 / self.slots_max as f64;
        let seconds = rounds * mean.unwrap_or_default();
        Duration::from_secs_f64(seconds.ceil().clamp(1.0, RETRY_AFTER_MAX_SECONDS))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.waiting.fetch_sub(1, Ordering::AcqRel);
        metrics::request_dequeued();
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let seconds = self.since.elapsed().as_secs_f64();
        let mut mean = self.admission.mean_seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mean.unwrap_or(seconds);
        *mean = Some(before + MEAN_WEIGHT * (seconds - before));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use futures::FutureExt;
    use futures::future::poll_immediate;

    use super::*;

    fn admission(slots: usize, queue_max: usize) -> Admission {
        let requests_max = NonZeroUsize::new(slots).unwrap();
        Admission::new(&Settings { requests_max, queue_max, ..Settings::default() })
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_request_that_leaves_it_makes_room() {
        let admission = admission(1, 1);
        let slot = admission.admit().await.unwrap();
        let mut first = Box::pin(admission.admit());
        assert!(poll_immediate(&mut first).await.is_none());
        let refused = admission.admit().now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(1));
        drop(first);
        let mut second = Box::pin(admission.admit());
        assert!(poll_immediate(&mut second).await.is_none(), "it waits and is not refused");
        drop(slot);
        assert!(poll_immediate(&mut second).await.unwrap().is_ok());
    }

    #[test]
    fn the_time_to_try_again_is_that_of_the_queue_at_the_present_pace() {
        let admission = admission(2, 9);
        *admission.mean_seconds.lock().unwrap() = Some(0.9);
        // Ten requests in two slots are five rounds of 0.9 s.
        assert_eq!(admission.retry_after(), Duration::from_secs(5));
        *admission.mean_seconds.lock().unwrap() = Some(1e9);
        assert_eq!(admission.retry_after(), Duration::from_mins(1));
    }
}
