//! What the polling thread, the producer and the tasks of one worker share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::stream::error::StreamError;
use crate::stream::intake::readiness::Vitals;
use crate::stream::offsets::partitions::Partitions;
use crate::stream::output::outbox::Outbox;
use crate::stream::record::in_flight_budget::InFlightBudget;
use crate::stream::settings::Settings;

/// One worker's common state.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) partitions: Partitions,
    pub(crate) budget: Arc<InFlightBudget>,
    pub(crate) fault: Fault,
    pub(crate) counts: Counts,
    /// Answers that wait for a transaction; empty where each is written by itself.
    pub(crate) outbox: Outbox,
    /// Ends every task of the worker.
    pub(crate) tasks: CancellationToken,
    vitals: Mutex<Vitals>,
}

/// What the worker did so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: AtomicU64,
    pub(crate) tombstones: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
}

/// The first error that ends the worker.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    error: Mutex<Option<StreamError>>,
    raised: CancellationToken,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let bytes_max = settings.in_flight_bytes_max.as_u64();
        Self {
            partitions: Partitions::new(settings.window_max.get()),
            budget: InFlightBudget::new(settings.in_flight_max.get(), bytes_max),
            fault: Fault::default(),
            counts: Counts::default(),
            outbox: Outbox::default(),
            tasks: CancellationToken::new(),
            vitals: Mutex::new(Vitals::new(std::time::Instant::now())),
            settings,
        }
    }

    pub(crate) fn vitals(&self) -> MutexGuard<'_, Vitals> {
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    pub(crate) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fault {
    /// Ends the worker with this error, unless another one was first.
    pub(crate) fn raise(&self, error: StreamError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            tracing::debug!(%error, "the worker cannot go on");
            *first = Some(error);
        }
        drop(first);
        self.raised.cancel();
    }

    /// Waits for an error.
    ///
    /// Cancel safe.
    pub(crate) async fn raised(&self) {
        self.raised.cancelled().await;
    }

    /// The error, if there was one.
    pub(crate) fn take(&self) -> Option<StreamError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether there was an error.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.is_cancelled()
    }
}
