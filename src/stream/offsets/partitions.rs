//! The windows of the assigned partitions, shared between the polling thread and the tasks.
//!
//! Answers reach the windows without the polling thread: during a rebalance that thread waits here
//! for exactly those answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics;

use crate::stream::offsets::tracker::{Audit, Completion, Position, Refused, Ticket, Tracker};

/// The tracker behind its lock, with a token per assignment that ends the assignment's tasks.
#[derive(Debug)]
pub(crate) struct Partitions {
    state: Mutex<State>,
    progressed: Condvar,
}

#[derive(Debug)]
struct State {
    tracker: Tracker,
    assignments: BTreeMap<i32, Arc<CancellationToken>>,
    /// Threads inside [`Partitions::wait_idle`]: without one, an answer costs no system call.
    waiting: usize,
}

impl Partitions {
    pub(crate) fn new(window_max: usize) -> Self {
        let tracker = Tracker::new(window_max);
        let state = State { tracker, assignments: BTreeMap::new(), waiting: 0 };
        Self { state: Mutex::new(state), progressed: Condvar::new() }
    }

    /// Starts an assignment. Its token is a child of `root`.
    pub(crate) fn assign(&self, partition: i32, root: &CancellationToken) {
        let mut state = self.lock();
        state.tracker.assign(partition);
        let before = state.assignments.insert(partition, Arc::new(root.child_token()));
        if let Some(before) = before {
            before.cancel();
        }
    }

    /// Ends an assignment: its tasks stop, their answers are late. Gives the number of records that
    /// were taken in and not answered.
    pub(crate) fn revoke(&self, partition: i32) -> usize {
        let mut state = self.lock();
        let unfinished = state.tracker.revoke(partition);
        let token = state.assignments.remove(&partition);
        drop(state);
        if let Some(token) = token {
            token.cancel();
        }
        unfinished
    }

    /// Gives the record its place and the token of its assignment.
    pub(crate) fn admit(
        &self,
        partition: i32,
        offset: i64,
        now: Instant,
    ) -> Result<(Ticket, Arc<CancellationToken>), Refused> {
        let mut state = self.lock();
        let ticket = state.tracker.admit(partition, offset, now)?;
        let token = state.assignments.get(&partition).ok_or(Refused::NotAssigned)?;
        Ok((ticket, Arc::clone(token)))
    }

    /// Notes an answer; one that is late is counted and changes nothing.
    pub(crate) fn complete(&self, ticket: Ticket) {
        let mut state = self.lock();
        let completion = state.tracker.complete(ticket);
        if state.waiting > 0 {
            self.progressed.notify_all();
        }
        drop(state);
        if completion == Completion::Late {
            metrics::late_completion_dropped();
        }
    }

    /// Waits until everything taken in from `partitions` is answered, at most until `deadline`;
    /// gives the number of records that are not.
    pub(crate) fn wait_idle(&self, partitions: &[i32], deadline: Instant) -> usize {
        let mut state = self.lock();
        loop {
            let unfinished = state.tracker.unfinished(|number| partitions.contains(&number));
            let left = deadline.saturating_duration_since(Instant::now());
            if unfinished == 0 || left.is_zero() {
                return unfinished;
            }
            state.waiting += 1;
            let wait = self.progressed.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    /// The positions that moved since they were last taken.
    pub(crate) fn take_changed(&self, now: Instant) -> Vec<Position> {
        self.lock().tracker.take_changed(now)
    }

    /// Compares what was handed out for a commit with what the brokers hold.
    pub(crate) fn audit(
        &self,
        partition: i32,
        committed: Option<i64>,
        now: Instant,
        patience: Duration,
    ) -> Audit {
        self.lock().tracker.audit(partition, committed, now, patience)
    }

    /// The positions of the given partitions, moved or not: a commit of the earlier ones may still
    /// be on its way, and whether it arrives would show too late.
    pub(crate) fn positions(&self, partitions: &[i32]) -> Vec<Position> {
        let state = self.lock();
        let position = |&partition: &i32| {
            let offset = state.tracker.position(partition)?;
            Some(Position { partition, offset })
        };
        partitions.iter().filter_map(position).collect()
    }

    /// A commit of the partition's position failed; it is due again.
    pub(crate) fn request_failed(&self, partition: i32) {
        self.lock().tracker.request_failed(partition);
    }

    /// Answers since positions were last taken.
    pub(crate) fn completions(&self) -> usize {
        self.lock().tracker.completions()
    }

    /// Numbers of the assigned partitions.
    pub(crate) fn assigned(&self) -> Vec<i32> {
        self.lock().tracker.partitions().collect()
    }

    /// Where the group would continue, if something of the partition was answered.
    pub(crate) fn position(&self, partition: i32) -> Option<i64> {
        self.lock().tracker.position(partition)
    }

    /// Places in use in the partition's window.
    pub(crate) fn window_len(&self, partition: i32) -> usize {
        self.lock().tracker.window_len(partition)
    }

    /// Records taken in and not answered, and when the oldest of them was taken in.
    pub(crate) fn in_flight(&self) -> (usize, Option<Instant>) {
        let state = self.lock();
        (state.tracker.unfinished(|_| true), state.tracker.oldest())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The tracker panics only on a bug, before it changes anything.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_rebalance_waits_for_the_answers_of_its_partitions_only() {
        let partitions = Partitions::new(8);
        let root = CancellationToken::new();
        for number in [0, 1] {
            partitions.assign(number, &root);
        }
        let (ours, _) = partitions.admit(0, 5, Instant::now()).unwrap();
        let (_other, _) = partitions.admit(1, 5, Instant::now()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| partitions.complete(ours));
            let deadline = Instant::now() + Duration::from_mins(1);
            assert_eq!(partitions.wait_idle(&[0], deadline), 0);
        });
        assert_eq!(partitions.wait_idle(&[1], Instant::now()), 1, "the deadline ends the wait");
    }

    #[test]
    fn a_revoked_assignment_stops_its_tasks_and_no_others() {
        let partitions = Partitions::new(8);
        let root = CancellationToken::new();
        for number in [0, 1] {
            partitions.assign(number, &root);
        }
        let (_, ours) = partitions.admit(0, 5, Instant::now()).unwrap();
        let (_, other) = partitions.admit(1, 5, Instant::now()).unwrap();
        assert_eq!(partitions.revoke(0), 1);
        assert!(ours.is_cancelled());
        assert!(!other.is_cancelled());
        root.cancel();
        assert!(other.is_cancelled());
    }
}
