//! The windows of the assigned partitions, shared between the polling thread and the answering
//! tasks.
//!
//! Tasks complete their slots here without the polling thread, because during a rebalance that
//! thread blocks in [`Partitions::wait_answered`] until they have.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::stream::offsets::tracker::{
    AdmitError, CommitAudit, CommittableOffset, Completion, SlotTicket, Tracker,
};

/// The tracker behind its lock, and one token per assignment that cancels the assignment's tasks.
#[derive(Debug)]
pub(crate) struct Partitions {
    assignments: Mutex<Assignments>,
    progressed: Condvar,
}

#[derive(Debug)]
struct Assignments {
    tracker: Tracker,
    tokens: BTreeMap<i32, Arc<CancellationToken>>,
    /// Threads inside [`Partitions::wait_answered`]. At zero, an answer costs no system call.
    waiting_threads: usize,
}

impl Partitions {
    pub(crate) fn new(window_max: usize) -> Self {
        let tracker = Tracker::new(window_max);
        let assignments = Assignments { tracker, tokens: BTreeMap::new(), waiting_threads: 0 };
        Self { assignments: Mutex::new(assignments), progressed: Condvar::new() }
    }

    /// Starts an assignment. Its token is a child of `root`.
    pub(crate) fn assign(&self, partition: i32, root: &CancellationToken) {
        let mut assignments = self.lock();
        assignments.tracker.assign(partition);
        let replaced = assignments.tokens.insert(partition, Arc::new(root.child_token()));
        if let Some(token) = replaced {
            token.cancel();
        }
    }

    /// Ends an assignment: cancels its tasks; their answers are late from now on. Returns the
    /// number of its unanswered records.
    pub(crate) fn revoke(&self, partition: i32) -> usize {
        let mut assignments = self.lock();
        let unanswered = assignments.tracker.revoke(partition);
        let token = assignments.tokens.remove(&partition);
        drop(assignments);
        if let Some(token) = token {
            token.cancel();
        }
        unanswered
    }

    /// Assigns the next slot of the partition to the record at `offset`. Returns its ticket and the
    /// token of the assignment.
    ///
    /// # Errors
    /// Fails if the window is full or the partition is not assigned.
    pub(crate) fn admit(
        &self,
        partition: i32,
        offset: i64,
        now: Instant,
    ) -> Result<(SlotTicket, Arc<CancellationToken>), AdmitError> {
        let mut assignments = self.lock();
        let ticket = assignments.tracker.admit(partition, offset, now)?;
        let token = assignments.tokens.get(&partition).ok_or(AdmitError::NotAssigned)?;
        Ok((ticket, Arc::clone(token)))
    }

    /// Marks the record of this ticket as answered. A late answer changes nothing.
    pub(crate) fn complete(&self, ticket: SlotTicket) -> Completion {
        let mut assignments = self.lock();
        let completion = assignments.tracker.complete(ticket);
        if assignments.waiting_threads > 0 {
            self.progressed.notify_all();
        }
        completion
    }

    /// Blocks until every admitted record of `partitions` is answered, at most until `deadline`.
    /// Returns the number of records that are still unanswered.
    pub(crate) fn wait_answered(&self, partitions: &[i32], deadline: Instant) -> usize {
        let mut assignments = self.lock();
        loop {
            let unanswered = assignments.tracker.unanswered(|number| partitions.contains(&number));
            let left = deadline.saturating_duration_since(Instant::now());
            if unanswered == 0 || left.is_zero() {
                return unanswered;
            }
            assignments.waiting_threads += 1;
            let woken = self.progressed.wait_timeout(assignments, left);
            assignments = woken.unwrap_or_else(PoisonError::into_inner).0;
            assignments.waiting_threads -= 1;
        }
    }

    /// Returns the committable offsets that changed since the last call.
    pub(crate) fn take_committable(&self, now: Instant) -> Vec<CommittableOffset> {
        self.lock().tracker.take_committable(now)
    }

    /// Compares the requested commit of a partition with the offset that the brokers hold.
    pub(crate) fn audit(
        &self,
        partition: i32,
        committed: Option<i64>,
        now: Instant,
        overdue_after: Duration,
    ) -> CommitAudit {
        self.lock().tracker.audit(partition, committed, now, overdue_after)
    }

    /// Returns the committable offsets of the given partitions that the brokers have not confirmed.
    /// The last commit before a revocation or a stop repeats them, because an earlier asynchronous
    /// commit may still be in flight and fail unnoticed. Without any, a worker without brokers
    /// stops at once.
    pub(crate) fn committable_offsets(&self, partitions: &[i32]) -> Vec<CommittableOffset> {
        let assignments = self.lock();
        let committable = |&partition: &i32| {
            let tracker = &assignments.tracker;
            let offset =
                tracker.committable(partition).filter(|_| !tracker.is_confirmed(partition))?;
            Some(CommittableOffset { partition, offset })
        };
        partitions.iter().filter_map(committable).collect()
    }

    /// Makes the offset of the partition due again, because its commit failed.
    pub(crate) fn commit_failed(&self, partition: i32) {
        self.lock().tracker.commit_failed(partition);
    }

    /// Returns the number of answers since the last [`Partitions::take_committable`].
    pub(crate) fn completions(&self) -> usize {
        self.lock().tracker.completions()
    }

    /// Returns the numbers of the assigned partitions.
    pub(crate) fn assigned(&self) -> Vec<i32> {
        self.lock().tracker.partitions().collect()
    }

    /// Returns the committable offset of a partition, or `None` if no slot has left its window.
    pub(crate) fn committable(&self, partition: i32) -> Option<i64> {
        self.lock().tracker.committable(partition)
    }

    /// Returns the number of slots in the window of a partition.
    pub(crate) fn window_len(&self, partition: i32) -> usize {
        self.lock().tracker.window_len(partition)
    }

    /// Returns the number of unanswered records and the admission time of the oldest.
    pub(crate) fn in_flight(&self) -> (usize, Option<Instant>) {
        let assignments = self.lock();
        let unanswered = assignments.tracker.unanswered(|_| true);
        (unanswered, assignments.tracker.oldest_unanswered())
    }

    fn lock(&self) -> MutexGuard<'_, Assignments> {
        // A poisoned lock is safe to use: the tracker panics only on a bug, before any change.
        self.assignments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_wait_covers_the_answers_of_its_partitions_only() {
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
            assert_eq!(partitions.wait_answered(&[0], deadline), 0);
        });
        assert_eq!(partitions.wait_answered(&[1], Instant::now()), 1, "the deadline ends the wait");
    }

    #[test]
    fn a_revoked_assignment_cancels_its_own_tasks_only() {
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
