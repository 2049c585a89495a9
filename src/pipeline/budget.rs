//! The two budgets that bound memory: fetched bytes and decoded pixels of all images in flight.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for this many bytes or pixels, so that large budgets fit the semaphore.
const UNIT: u64 = 1024;

/// A pool of units that images hold while they need memory.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// A part of a budget; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    pub(super) fn new(amount: u64) -> Self {
        let total = units(amount);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until `amount` is free. More than the whole budget asks for the whole budget: a single
    /// image within its own limits always gets through, alone.
    ///
    /// Cancel safe: an abandoned wait holds nothing.
    pub(super) async fn take(&self, amount: u64) -> Share {
        let wanted = units(amount).min(self.total);
        let permit = Arc::clone(&self.units)
            .acquire_many_owned(wanted)
            .await
            .expect("budgets are never closed");
        Share { permit }
    }

    /// What nobody holds now.
    pub(super) fn free(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }
}

impl Share {
    /// Gives back what exceeds `amount`.
    pub(super) fn shrink_to(&mut self, amount: u64) {
        let excess = self.permit.num_permits().saturating_sub(units(amount) as usize);
        drop(self.permit.split(excess));
    }
}

fn units(amount: u64) -> u32 {
    u32::try_from(amount.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_share_waits_until_others_give_back() {
        let budget = Budget::new(10 * UNIT);
        let mut first = budget.take(8 * UNIT).await;
        assert!(budget.take(4 * UNIT).now_or_never().is_none());
        first.shrink_to(UNIT);
        assert_eq!(budget.free(), 9 * UNIT);
        assert!(budget.take(4 * UNIT).now_or_never().is_some());
    }

    #[tokio::test]
    async fn an_image_larger_than_the_budget_gets_all_of_it() {
        let budget = Budget::new(10 * UNIT);
        let share = budget.take(1_000 * UNIT).await;
        assert_eq!(budget.free(), 0);
        drop(share);
        assert_eq!(budget.free(), 10 * UNIT);
    }

    #[tokio::test]
    async fn growing_is_not_possible_and_shrinking_to_more_keeps_the_share() {
        let budget = Budget::new(10 * UNIT);
        let mut share = budget.take(2 * UNIT).await;
        share.shrink_to(5 * UNIT);
        assert_eq!(budget.free(), 8 * UNIT);
    }
}
