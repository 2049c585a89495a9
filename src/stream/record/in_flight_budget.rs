//! Limits the records in flight, by number and by summed size.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The budget of one worker.
#[derive(Debug)]
pub(crate) struct InFlightBudget {
    records_max: usize,
    bytes_max: u64,
    usage: Mutex<Usage>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Usage {
    records: usize,
    bytes: u64,
    /// Threads inside [`InFlightBudget::wait`]. At zero, a release costs no system call.
    waiting_threads: usize,
}

/// The share of one record. Dropping it returns the share to the budget.
#[derive(Debug)]
pub(crate) struct InFlightPermit {
    budget: Arc<InFlightBudget>,
    bytes: u64,
}

impl InFlightBudget {
    pub(crate) fn new(records_max: usize, bytes_max: u64) -> Arc<Self> {
        let (usage, released) = (Mutex::default(), Condvar::new());
        Arc::new(Self { records_max, bytes_max, usage, released })
    }

    /// Returns a permit for one record, or `None` if the budget is used up. A record larger than
    /// `bytes_max` gets its permit when no other record is in flight.
    pub(crate) fn try_acquire(self: &Arc<Self>, bytes: u64) -> Option<InFlightPermit> {
        let mut usage = self.lock();
        let fits = usage.records < self.records_max
            && (usage.records == 0 || usage.bytes + bytes <= self.bytes_max);
        fits.then(|| {
            usage.records += 1;
            usage.bytes += bytes;
            InFlightPermit { budget: Arc::clone(self), bytes }
        })
    }

    /// Blocks until at least an eighth of the records is free, at most for `timeout`, so that one
    /// wake-up admits several records. May return early.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut usage = self.lock();
        usage.waiting_threads += 1;
        let woken = self.released.wait_timeout(usage, timeout);
        let (mut usage, _) = woken.unwrap_or_else(PoisonError::into_inner);
        usage.waiting_threads -= 1;
    }

    /// Returns true if at least half of the budget is free.
    pub(crate) fn is_half_free(&self) -> bool {
        let usage = self.lock();
        usage.records <= self.records_max / 2 && usage.bytes <= self.bytes_max / 2
    }

    /// Returns the number of records in flight.
    pub(crate) fn records(&self) -> usize {
        self.lock().records
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut usage = self.budget.lock();
        usage.records -= 1;
        usage.bytes -= self.bytes;
        let records_max = self.budget.records_max;
        if usage.waiting_threads > 0 && usage.records <= records_max - (records_max / 8).max(1) {
            self.budget.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_records_and_bytes() {
        let budget = InFlightBudget::new(2, 100);
        let first = budget.try_acquire(60).unwrap();
        assert!(budget.try_acquire(60).is_none(), "bytes are used up");
        let second = budget.try_acquire(40).unwrap();
        assert!(budget.try_acquire(0).is_none(), "records are used up");
        drop(first);
        assert!(budget.is_half_free());
        assert!(budget.try_acquire(60).is_some());
        drop(second);
        assert_eq!(budget.records(), 0);
    }

    #[test]
    fn a_record_larger_than_the_budget_is_admitted_alone() {
        let budget = InFlightBudget::new(2, 100);
        let permit = budget.try_acquire(500).unwrap();
        assert!(budget.try_acquire(1).is_none());
        drop(permit);
        assert!(budget.try_acquire(1).is_some());
    }
}
