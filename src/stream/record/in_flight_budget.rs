//! Limits the references in flight, by number, and their records by summed size.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The budget of one worker.
#[derive(Debug)]
pub(crate) struct InFlightBudget {
    references_max: usize,
    bytes_max: u64,
    usage: Mutex<Usage>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Usage {
    references: usize,
    bytes: u64,
    /// Threads inside [`InFlightBudget::wait`]. At zero, a release costs no system call.
    waiting_threads: usize,
}

/// The share of one record. Dropping it returns the share to the budget.
#[derive(Debug)]
pub(crate) struct InFlightPermit {
    budget: Arc<InFlightBudget>,
    references: usize,
    bytes: u64,
}

impl InFlightBudget {
    pub(crate) fn new(references_max: usize, bytes_max: u64) -> Arc<Self> {
        let (usage, released) = (Mutex::default(), Condvar::new());
        Arc::new(Self { references_max, bytes_max, usage, released })
    }

    /// Returns a permit for one record with its references, or `None` if the budget is used up. A
    /// record larger than the budget gets its permit when no other record is in flight.
    pub(crate) fn try_acquire(
        self: &Arc<Self>,
        references: usize,
        bytes: u64,
    ) -> Option<InFlightPermit> {
        let mut usage = self.lock();
        let fits = usage.references + references <= self.references_max
            && usage.bytes + bytes <= self.bytes_max;
        (fits || usage.references == 0).then(|| {
            usage.references += references;
            usage.bytes += bytes;
            InFlightPermit { budget: Arc::clone(self), references, bytes }
        })
    }

    /// Blocks until at least an eighth of the references is free, at most for `timeout`, so that
    /// one wake-up admits several records. May return early.
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
        usage.references <= self.references_max / 2 && usage.bytes <= self.bytes_max / 2
    }

    /// Returns the number of references in flight.
    pub(crate) fn references(&self) -> usize {
        self.lock().references
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut usage = self.budget.lock();
        usage.references -= self.references;
        usage.bytes -= self.bytes;
        let references_max = self.budget.references_max;
        let enough = references_max - (references_max / 8).max(1);
        if usage.waiting_threads > 0 && usage.references <= enough {
            self.budget.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_references_and_bytes() {
        let budget = InFlightBudget::new(2, 100);
        let first = budget.try_acquire(1, 60).unwrap();
        assert!(budget.try_acquire(1, 60).is_none(), "bytes are used up");
        let second = budget.try_acquire(1, 40).unwrap();
        assert!(budget.try_acquire(1, 0).is_none(), "references are used up");
        drop(first);
        assert!(budget.is_half_free());
        assert!(budget.try_acquire(2, 0).is_none(), "one of them is free");
        assert!(budget.try_acquire(1, 60).is_some());
        drop(second);
        assert_eq!(budget.references(), 0);
    }

    #[test]
    fn a_record_larger_than_the_budget_is_admitted_alone() {
        let budget = InFlightBudget::new(2, 100);
        for (references, bytes) in [(1, 500), (7, 10)] {
            let permit = budget.try_acquire(references, bytes).unwrap();
            assert!(budget.try_acquire(1, 1).is_none());
            drop(permit);
            assert!(budget.try_acquire(1, 1).is_some());
        }
    }
}
