//! The order of waiting work: requests come before the backlog, and the backlog keeps a share.
//!
//! Requests are those of `dogiqa serve`, whose senders wait. The backlog is everything else. If
//! both wait for the same resource, at most [`REQUESTS_IN_A_ROW_MAX`] requests are served before
//! one of the backlog.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Requests that pass in a row while the backlog waits. The backlog gets at least every fifth turn.
pub(crate) const REQUESTS_IN_A_ROW_MAX: usize = 4;

/// The line in which work waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// A request whose sender waits for the answer.
    Request,
    /// A record of Kafka, or an image of a command.
    #[default]
    Backlog,
}

/// A value for each priority.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByPriority<T> {
    pub(crate) request: T,
    pub(crate) backlog: T,
}

impl<T> ByPriority<T> {
    pub(crate) fn get(&self, priority: Priority) -> &T {
        match priority {
            Priority::Request => &self.request,
            Priority::Backlog => &self.backlog,
        }
    }

    pub(crate) fn get_mut(&mut self, priority: Priority) -> &mut T {
        match priority {
            Priority::Request => &mut self.request,
            Priority::Backlog => &mut self.backlog,
        }
    }
}

/// Decides which of two lines is served next.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    requests_in_a_row: usize,
}

impl Turns {
    /// Returns both lines in their order. If the first is empty, serve the second.
    pub(crate) fn order(&self) -> [Priority; 2] {
        if self.requests_in_a_row < REQUESTS_IN_A_ROW_MAX {
            [Priority::Request, Priority::Backlog]
        } else {
            [Priority::Backlog, Priority::Request]
        }
    }

    /// Records which line was served.
    pub(crate) fn served(&mut self, priority: Priority) {
        self.requests_in_a_row = match priority {
            Priority::Request => self.requests_in_a_row.saturating_add(1),
            Priority::Backlog => 0,
        };
    }
}

/// A semaphore with a line for each priority. Within a line the order is that of arrival, so a
/// large acquisition is not overtaken by small ones behind it.
#[derive(Debug, Clone)]
pub(crate) struct PrioritySemaphore {
    state: Arc<Mutex<SemaphoreState>>,
}

#[derive(Debug)]
struct SemaphoreState {
    free: u64,
    lines: ByPriority<VecDeque<Waiter>>,
    turns: Turns,
}

#[derive(Debug)]
struct Waiter {
    units: u64,
    granted: oneshot::Sender<Permit>,
}

/// Acquired units. Dropping them returns them.
#[derive(Debug)]
pub(crate) struct Permit {
    units: u64,
    semaphore: PrioritySemaphore,
}

impl PrioritySemaphore {
    pub(crate) fn new(units: u64) -> Self {
        let state =
            SemaphoreState { free: units, lines: ByPriority::default(), turns: Turns::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits until `units` are free and it is this acquisition's turn.
    ///
    /// Cancel safe: an abandoned acquisition holds nothing and blocks no other.
    pub(crate) async fn acquire(&self, units: u64, priority: Priority) -> Permit {
        if self.lock().take_at_once(units, priority) {
            return Permit { units, semaphore: self.clone() };
        }
        let (granted, permit) = oneshot::channel();
        self.lock().lines.get_mut(priority).push_back(Waiter { units, granted });
        self.serve_lines();
        // Serves those behind this acquisition if its future is dropped.
        let _withdrawal = Withdrawal { semaphore: self };
        permit.await.expect("a waiter leaves its line only with its permit or its future")
    }

    /// Returns the units that are not acquired.
    pub(crate) fn free(&self) -> u64 {
        self.lock().free
    }

    fn release(&self, units: u64) {
        self.lock().free += units;
        self.serve_lines();
    }

    fn serve_lines(&self) {
        let mut state = self.lock();
        while let Some(Waiter { units, granted }) = state.next() {
            let permit = Permit { units, semaphore: self.clone() };
            if let Err(mut abandoned) = granted.send(permit) {
                // Its drop must not lock again.
                state.free += std::mem::take(&mut abandoned.units);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SemaphoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SemaphoreState {
    /// Takes units without a waiter, which most acquisitions need not become. Returns false if
    /// others wait or too little is free.
    fn take_at_once(&mut self, units: u64, priority: Priority) -> bool {
        let is_first = self.lines.request.is_empty() && self.lines.backlog.is_empty();
        let is_taken = is_first && units <= self.free;
        if is_taken {
            self.free -= units;
            self.turns.served(priority);
        }
        is_taken
    }

    /// Removes the waiter whose turn it is, if enough is free for it.
    fn next(&mut self) -> Option<Waiter> {
        for priority in self.turns.order() {
            let line = self.lines.get_mut(priority);
            while line.front().is_some_and(|waiter| waiter.granted.is_closed()) {
                line.pop_front();
            }
            let Some(first) = line.front() else { continue };
            if first.units > self.free {
                return None;
            }
            self.free -= first.units;
            self.turns.served(priority);
            return line.pop_front();
        }
        None
    }
}

impl Permit {
    /// Returns everything above `units` to the semaphore.
    pub(crate) fn shrink_to(&mut self, units: u64) {
        let excess = self.units.saturating_sub(units);
        self.units -= excess;
        self.semaphore.release(excess);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.units > 0 {
            self.semaphore.release(self.units);
        }
    }
}

struct Withdrawal<'a> {
    semaphore: &'a PrioritySemaphore,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.semaphore.serve_lines();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt;
    use futures::future::poll_immediate;
    use proptest::prelude::*;

    use super::*;

    type Acquisition<'a> = Pin<Box<dyn Future<Output = Permit> + 'a>>;

    /// Queues one acquisition of one unit for each priority, in this order.
    async fn queue<'a>(
        semaphore: &'a PrioritySemaphore,
        arrivals: &[Priority],
    ) -> Vec<(Priority, Acquisition<'a>)> {
        let mut waiting = Vec::new();
        for &priority in arrivals {
            let mut acquisition: Acquisition<'a> = Box::pin(semaphore.acquire(1, priority));
            assert!(poll_immediate(&mut acquisition).await.is_none());
            waiting.push((priority, acquisition));
        }
        waiting
    }

    /// Frees one unit at a time and returns the order of those that got it.
    async fn served(mut waiting: Vec<(Priority, Acquisition<'_>)>, held: Permit) -> Vec<Priority> {
        let mut order = Vec::new();
        let mut holder = held;
        while !waiting.is_empty() {
            drop(holder);
            let mut next = None;
            for (index, (priority, acquisition)) in waiting.iter_mut().enumerate() {
                if let Some(permit) = poll_immediate(acquisition).await {
                    assert!(next.is_none(), "one unit went to two");
                    next = Some((index, *priority, permit));
                }
            }
            let (index, priority, permit) = next.expect("a free unit goes to a waiter");
            drop(waiting.remove(index));
            order.push(priority);
            holder = permit;
        }
        order
    }

    #[tokio::test]
    async fn requests_pass_the_backlog_and_the_backlog_keeps_every_fifth_turn() {
        use Priority::{Backlog, Request};
        let semaphore = PrioritySemaphore::new(1);
        let held = semaphore.acquire(1, Backlog).await;
        let arrivals = [[Backlog; 3].as_slice(), &[Request; 9]].concat();
        let waiting = queue(&semaphore, &arrivals).await;
        let order = served(waiting, held).await;
        let expected =
            [[Request; 4].as_slice(), &[Backlog], &[Request; 4], &[Backlog, Request, Backlog]];
        assert_eq!(order, expected.concat());
    }

    #[tokio::test]
    async fn an_abandoned_acquisition_at_the_front_blocks_no_other() {
        let semaphore = PrioritySemaphore::new(10);
        let held = semaphore.acquire(8, Priority::Backlog).await;
        let mut large = Box::pin(semaphore.acquire(10, Priority::Request));
        assert!(poll_immediate(&mut large).await.is_none());
        let mut small = Box::pin(semaphore.acquire(2, Priority::Request));
        assert!(poll_immediate(&mut small).await.is_none(), "it waits behind the large one");
        drop(large);
        let small = poll_immediate(&mut small).await.expect("nothing is ahead any more");
        // A permit that was granted and never received is returned, too.
        let mut waiting = Box::pin(semaphore.acquire(8, Priority::Backlog));
        assert!(poll_immediate(&mut waiting).await.is_none());
        drop(held);
        drop(waiting);
        drop(small);
        assert_eq!(semaphore.free(), 10);
    }

    proptest! {
        /// Units are never lost, never handed out twice, and a request waits for at most one of
        /// the backlog per `REQUESTS_IN_A_ROW_MAX`.
        #[test]
        fn units_are_conserved_and_no_line_starves(
            arrivals in prop::collection::vec((any::<bool>(), any::<bool>()), 1..60),
        ) {
            let priority = |is_request: bool| {
                if is_request { Priority::Request } else { Priority::Backlog }
            };
            let order = async {
                let semaphore = PrioritySemaphore::new(1);
                let held = semaphore.acquire(1, Priority::Backlog).await;
                let all: Vec<_> = arrivals.iter().map(|(request, _)| priority(*request)).collect();
                let mut waiting = queue(&semaphore, &all).await;
                let mut stays = arrivals.iter().map(|(_, stays)| *stays);
                waiting.retain(|_| stays.next().unwrap());
                let order = served(waiting, held).await;
                assert_eq!(semaphore.free(), 1);
                order
            };
            let order = order.now_or_never().expect("nothing waits for anything else");
            let stayed = arrivals.iter().filter(|(_, stays)| *stays).count();
            prop_assert_eq!(order.len(), stayed);
            for (index, window) in order.windows(REQUESTS_IN_A_ROW_MAX + 1).enumerate() {
                let rest = &order[index..];
                if rest.contains(&Priority::Backlog) {
                    prop_assert!(window.contains(&Priority::Backlog), "{order:?}");
                }
            }
            let first_backlog = order.iter().position(|it| *it == Priority::Backlog);
            let requests = order.iter().filter(|it| **it == Priority::Request).count();
            if let Some(first) = first_backlog {
                prop_assert_eq!(first, requests.min(REQUESTS_IN_A_ROW_MAX));
            }
        }
    }
}
