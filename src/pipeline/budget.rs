//! A budget of memory, as an amount that images reserve and return. The pipeline has one for
//! fetched bytes and one for decoded pixels.

use crate::priority::{Permit, Priority, PrioritySemaphore};

/// Bytes or pixels per unit of the semaphore.
const UNIT: u64 = 1024;

/// An amount of memory that images share.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    units: PrioritySemaphore,
    total: u64,
}

/// A reserved part of a budget. Dropping it returns the part.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    permit: Permit,
}

impl MemoryBudget {
    pub(crate) fn new(amount: u64) -> Self {
        let total = units(amount);
        Self { units: PrioritySemaphore::new(total), total }
    }

    /// Waits until `amount` is free and reserves it. An amount above the whole budget reserves the
    /// whole budget, so that an image within its own limits always passes, alone.
    ///
    /// Cancel safe: an abandoned wait reserves nothing.
    pub(crate) async fn reserve(&self, amount: u64, priority: Priority) -> BudgetShare {
        let wanted = units(amount).min(self.total);
        BudgetShare { permit: self.units.acquire(wanted, priority).await }
    }

    /// Returns the amount that is not reserved.
    pub(crate) fn free(&self) -> u64 {
        self.units.free() * UNIT
    }
}

impl BudgetShare {
    /// Returns everything above `amount` to the budget.
    pub(crate) fn shrink_to(&mut self, amount: u64) {
        self.permit.shrink_to(units(amount));
    }
}

fn units(amount: u64) -> u64 {
    amount.div_ceil(UNIT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_reservation_waits_until_enough_is_returned() {
        let budget = MemoryBudget::new(10 * UNIT);
        let mut first = budget.reserve(8 * UNIT, Priority::Backlog).await;
        assert!(budget.reserve(4 * UNIT, Priority::Backlog).now_or_never().is_none());
        first.shrink_to(UNIT);
        assert_eq!(budget.free(), 9 * UNIT);
        assert!(budget.reserve(4 * UNIT, Priority::Backlog).now_or_never().is_some());
    }

    #[tokio::test]
    async fn an_image_larger_than_the_budget_reserves_all_of_it() {
        let budget = MemoryBudget::new(10 * UNIT);
        let share = budget.reserve(1_000 * UNIT, Priority::Backlog).await;
        assert_eq!(budget.free(), 0);
        drop(share);
        assert_eq!(budget.free(), 10 * UNIT);
    }

    #[tokio::test]
    async fn shrinking_to_more_than_the_share_keeps_the_share() {
        let budget = MemoryBudget::new(10 * UNIT);
        let mut share = budget.reserve(2 * UNIT, Priority::Backlog).await;
        share.shrink_to(5 * UNIT);
        assert_eq!(budget.free(), 8 * UNIT);
    }
}
