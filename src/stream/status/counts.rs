//! Counts of a worker's records and answers, for the summary at its end.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stream::status::dead_letter_log::DeadLetterLog;

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: Count,
    pub(crate) tombstones: Count,
    pub(crate) skipped: Count,
    pub(crate) events: Count,
    pub(crate) dead_letters: Count,
    pub(crate) dead_letter_log: DeadLetterLog,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
