//! A budget of memory, as an amount that images reserve and return. The pipeline has one for
//! fetched bytes and one for decoded pixels.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes or pixels per permit, so that large budgets fit the semaphore.
const UNIT: u64 = 1024;

/// An amount of memory that images share.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    units: Arc<Semaphore>,
    total: u32,
}

/// A reserved part of a budget. Dropping it returns the part.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    permit: OwnedSemaphorePermit,
}

impl MemoryBudget {
    pub(crate) fn new(amount: u64) -> Self {
        let total = units(amount);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until `amount` is free and reserves it. An amount above the whole budget reserves the
    /// whole budget, so that an image within its own limits always passes, alone.
    ///
    /// Cancel safe: an abandoned wait reserves nothing.
    pub(crate) async fn reserve(&self, amount: u64) -> BudgetShare {
        let wanted = units(amount).min(self.total);
        let permit = Arc::clone(&self.units)
            .acquire_many_owned(wanted)
            .await
            .expect("budgets are never closed");
        BudgetShare { permit }
    }

    /// Returns the amount that is not reserved.
    pub(crate) fn free(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }
}

impl BudgetShare {
    /// Returns everything above `amount` to the budget.
    pub(crate) fn shrink_to(&mut self, amount: u64) {
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
    async fn a_reservation_waits_until_enough_is_returned() {
        let budget = MemoryBudget::new(10 * UNIT);
        let mut first = budget.reserve(8 * UNIT).await;
        assert!(budget.reserve(4 * UNIT).now_or_never().is_none());
        first.shrink_to(UNIT);
        assert_eq!(budget.free(), 9 * UNIT);
        assert!(budget.reserve(4 * UNIT).now_or_never().is_some());
    }

    #[tokio::test]
    async fn an_image_larger_than_the_budget_reserves_all_of_it() {
        let budget = MemoryBudget::new(10 * UNIT);
        let share = budget.reserve(1_000 * UNIT).await;
        assert_eq!(budget.free(), 0);
        drop(share);
        assert_eq!(budget.free(), 10 * UNIT);
    }

    #[tokio::test]
    async fn shrinking_to_more_than_the_share_keeps_the_share() {
        let budget = MemoryBudget::new(10 * UNIT);
        let mut share = budget.reserve(2 * UNIT).await;
        share.shrink_to(5 * UNIT);
        assert_eq!(budget.free(), 8 * UNIT);
    }
}
