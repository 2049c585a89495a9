//! Decides which offset of each assigned partition may be committed. No I/O, no clock: callers pass
//! the time.
//!
//! Each assigned partition has a window of slots. An admitted record gets the next slot. Records
//! are answered in any order, but slots leave the window at the front only, once they are answered.
//! The committable offset is one past the last slot that left, so no offset is committed before
//! every earlier one is answered. Slots have their own sequence numbers, because offsets have
//! gaps (compaction, transaction markers).
//!
//! Every assignment starts an empty window with a new epoch. An answer from an earlier epoch is
//! late and changes nothing: the record belongs to another worker, or was read again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The right to answer the record in one slot. Not `Clone`: a record is answered once.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotTicket {
    partition: i32,
    epoch: u64,
    sequence: u64,
}

/// Identifies the slot of a record in the window of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RecordSlot {
    pub(crate) partition: i32,
    /// Number of the assignment; later assignments have greater numbers.
    pub(crate) epoch: u64,
    /// Counted from the first record of the assignment.
    pub(crate) sequence: u64,
}

impl SlotTicket {
    pub(crate) fn slot(&self) -> RecordSlot {
        RecordSlot { partition: self.partition, epoch: self.epoch, sequence: self.sequence }
    }
}

/// The reason why a record was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmitError {
    /// The window is full: its oldest record must be answered first.
    WindowFull,
    /// The partition is not assigned to this worker.
    NotAssigned,
}

/// The effect of an answer on its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    /// The slot is now answered.
    Counted,
    /// The slot belongs to an earlier assignment; nothing changed.
    Late,
}

/// Result of comparing a requested commit with the offset that the brokers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitAudit {
    /// No commit is unconfirmed, or none for longer than the caller's limit.
    Fine,
    /// The brokers hold the oldest unconfirmed offset, or a later one.
    Confirmed,
    /// A commit stayed unconfirmed too long; its offset is due again.
    Overdue,
}

/// The offset from which the group continues to read a partition once it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommittableOffset {
    pub(crate) partition: i32,
    /// One past the last answered record.
    pub(crate) offset: i64,
}

/// The windows of all assigned partitions.
#[derive(Debug)]
pub(crate) struct Tracker {
    window_max: usize,
    last_epoch: u64,
    windows: BTreeMap<i32, Window>,
    completions: usize,
}

#[derive(Debug)]
struct Window {
    epoch: u64,
    /// Sequence number of the first slot.
    base_sequence: u64,
    slots: VecDeque<Slot>,
    unanswered: usize,
    /// One past the offset of the last slot that left; `None` until one has left.
    committable: Option<i64>,
    /// The offset that was last returned to be committed.
    requested: Option<i64>,
    unconfirmed: Option<UnconfirmedCommit>,
}

/// The oldest requested commit that the brokers have not confirmed.
#[derive(Debug, Clone, Copy)]
struct UnconfirmedCommit {
    offset: i64,
    requested_at: Instant,
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    admitted_at: Instant,
    is_answered: bool,
}

impl Tracker {
    /// Returns a tracker without partitions. A window holds at most `window_max` slots, answered
    /// ones behind an unanswered one included.
    pub(crate) fn new(window_max: usize) -> Self {
        Self { window_max, last_epoch: 0, windows: BTreeMap::new(), completions: 0 }
    }

    /// Starts an empty window for the partition. Tickets of an earlier window are late from now on.
    pub(crate) fn assign(&mut self, partition: i32) {
        self.last_epoch += 1;
        let window = Window {
            epoch: self.last_epoch,
            base_sequence: 0,
            slots: VecDeque::new(),
            unanswered: 0,
            committable: None,
            requested: None,
            unconfirmed: None,
        };
        self.windows.insert(partition, window);
    }

    /// Drops the window of the partition. Returns the number of its unanswered records.
    pub(crate) fn revoke(&mut self, partition: i32) -> usize {
        self.windows.remove(&partition).map_or(0, |window| window.unanswered)
    }

    /// Assigns the next slot of the partition to the record at `offset`.
    ///
    /// # Errors
    /// Fails if the window is full or the partition is not assigned.
    pub(crate) fn admit(
        &mut self,
        partition: i32,
        offset: i64,
        now: Instant,
    ) -> Result<SlotTicket, AdmitError> {
        let window = self.windows.get_mut(&partition).ok_or(AdmitError::NotAssigned)?;
        if window.slots.len() >= self.window_max {
            return Err(AdmitError::WindowFull);
        }
        let sequence = window.base_sequence + window.slots.len() as u64;
        window.slots.push_back(Slot { offset, admitted_at: now, is_answered: false });
        window.unanswered += 1;
        Ok(SlotTicket { partition, epoch: window.epoch, sequence })
    }

    /// Marks the record of this ticket as durably answered.
    #[expect(clippy::needless_pass_by_value, reason = "a consumed ticket completes only once")]
    pub(crate) fn complete(&mut self, ticket: SlotTicket) -> Completion {
        let SlotTicket { partition, epoch, sequence } = ticket;
        let current = self.windows.get_mut(&partition).filter(|window| window.epoch == epoch);
        let Some(window) = current else { return Completion::Late };
        window.answer(sequence);
        self.completions += 1;
        Completion::Counted
    }

    /// Returns the number of answers since the last [`Tracker::take_committable`].
    pub(crate) fn completions(&self) -> usize {
        self.completions
    }

    /// Returns the committable offsets that changed since the last call. They count as requested
    /// until [`Tracker::commit_failed`].
    pub(crate) fn take_committable(&mut self, now: Instant) -> Vec<CommittableOffset> {
        self.completions = 0;
        let mut changed = Vec::new();
        for (&partition, window) in &mut self.windows {
            if let Some(offset) = window.committable
                && window.committable != window.requested
            {
                window.requested = Some(offset);
                window.unconfirmed.get_or_insert(UnconfirmedCommit { offset, requested_at: now });
                changed.push(CommittableOffset { partition, offset });
            }
        }
        changed
    }

    /// Makes the offset of the partition due again, because its commit failed.
    pub(crate) fn commit_failed(&mut self, partition: i32) {
        if let Some(window) = self.windows.get_mut(&partition) {
            window.requested = None;
            window.unconfirmed = None;
        }
    }

    /// Compares the requested commit with `committed`, the offset that the brokers hold. An offset
    /// that is unconfirmed for `overdue_after` is due again. A later offset than any that is
    /// answered confirms nothing: it is of a topic that was deleted and created again.
    pub(crate) fn audit(
        &mut self,
        partition: i32,
        committed: Option<i64>,
        now: Instant,
        overdue_after: Duration,
    ) -> CommitAudit {
        let Some(window) = self.windows.get_mut(&partition) else { return CommitAudit::Fine };
        let Some(unconfirmed) = window.unconfirmed else { return CommitAudit::Fine };
        if committed >= Some(unconfirmed.offset) && committed <= window.committable {
            let later = window.requested.filter(|requested| Some(*requested) > committed);
            window.unconfirmed =
                later.map(|offset| UnconfirmedCommit { offset, requested_at: now });
            return CommitAudit::Confirmed;
        }
        if now.saturating_duration_since(unconfirmed.requested_at) < overdue_after {
            return CommitAudit::Fine;
        }
        self.commit_failed(partition);
        CommitAudit::Overdue
    }

    /// Returns the committable offset of a partition, or `None` if no slot has left its window.
    pub(crate) fn committable(&self, partition: i32) -> Option<i64> {
        self.windows.get(&partition)?.committable
    }

    /// Returns true if the brokers have confirmed the committable offset of a partition, or if
    /// there is none.
    pub(crate) fn is_confirmed(&self, partition: i32) -> bool {
        self.windows.get(&partition).is_none_or(|window| {
            window.committable == window.requested && window.unconfirmed.is_none()
        })
    }

    /// Returns the numbers of the assigned partitions.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.windows.keys().copied()
    }

    /// Returns the number of unanswered records in the partitions that `includes` accepts.
    pub(crate) fn unanswered(&self, includes: impl Fn(i32) -> bool) -> usize {
        let included = self.windows.iter().filter(|(number, _)| includes(**number));
        included.map(|(_, window)| window.unanswered).sum()
    }

    /// Returns the number of slots in the window of a partition, including answered ones behind an
    /// unanswered one.
    pub(crate) fn window_len(&self, partition: i32) -> usize {
        self.windows.get(&partition).map_or(0, |window| window.slots.len())
    }

    /// Returns the admission time of the oldest unanswered record, or `None` if all are answered.
    pub(crate) fn oldest_unanswered(&self) -> Option<Instant> {
        // The front slot is always unanswered: an answered slot leaves immediately.
        self.windows.values().filter_map(|window| Some(window.slots.front()?.admitted_at)).min()
    }
}

impl Window {
    fn answer(&mut self, sequence: u64) {
        let slot = sequence
            .checked_sub(self.base_sequence)
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.slots.get_mut(index))
            .expect("a ticket of this epoch belongs to a slot that is still in the window");
        debug_assert!(!slot.is_answered, "a ticket completes once");
        slot.is_answered = true;
        self.unanswered -= 1;
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.is_answered) {
            self.base_sequence += 1;
            self.committable = Some(slot.offset + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn committable(pairs: &[(i32, i64)]) -> Vec<CommittableOffset> {
        pairs.iter().map(|&(partition, offset)| CommittableOffset { partition, offset }).collect()
    }

    fn admit(tracker: &mut Tracker, partition: i32, offset: i64) -> SlotTicket {
        tracker.admit(partition, offset, Instant::now()).unwrap()
    }

    #[test]
    fn an_offset_is_committable_once_every_earlier_record_is_answered() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let [first, second, third] = [10, 11, 15].map(|offset| admit(&mut tracker, 0, offset));
        tracker.complete(third);
        tracker.complete(second);
        assert_eq!(tracker.take_committable(Instant::now()), []);
        tracker.complete(first);
        assert_eq!(tracker.take_committable(Instant::now()), committable(&[(0, 16)]));
        assert_eq!(tracker.take_committable(Instant::now()), [], "only what changed is committed");
    }

    #[test]
    fn a_full_window_admits_again_once_its_oldest_record_is_answered() {
        let mut tracker = Tracker::new(2);
        tracker.assign(3);
        let head = admit(&mut tracker, 3, 0);
        let next = admit(&mut tracker, 3, 1);
        tracker.complete(next);
        assert_eq!(tracker.admit(3, 2, Instant::now()), Err(AdmitError::WindowFull));
        assert_eq!(
            tracker.window_len(3),
            2,
            "an answered record behind an unanswered one keeps its slot"
        );
        tracker.complete(head);
        assert!(tracker.admit(3, 2, Instant::now()).is_ok());
    }

    #[test]
    fn an_answer_from_an_earlier_assignment_is_late() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let stale = admit(&mut tracker, 0, 7);
        assert_eq!(tracker.revoke(0), 1);
        tracker.assign(0);
        let fresh = admit(&mut tracker, 0, 7);
        assert_eq!(tracker.complete(stale), Completion::Late);
        assert_eq!(tracker.take_committable(Instant::now()), []);
        assert_eq!(tracker.complete(fresh), Completion::Counted);
        assert_eq!(tracker.take_committable(Instant::now()), committable(&[(0, 8)]));
    }

    #[test]
    fn the_offset_of_a_failed_commit_is_due_again() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let ticket = admit(&mut tracker, 0, 4);
        tracker.complete(ticket);
        assert_eq!(tracker.take_committable(Instant::now()), committable(&[(0, 5)]));
        tracker.commit_failed(0);
        assert_eq!(tracker.take_committable(Instant::now()), committable(&[(0, 5)]));
    }

    #[test]
    fn the_offset_of_an_unconfirmed_commit_is_due_again() {
        let overdue_after = Duration::from_secs(2);
        let start = Instant::now();
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let [first, second] = [4, 5].map(|offset| admit(&mut tracker, 0, offset));
        tracker.complete(first);
        assert_eq!(
            tracker.audit(0, None, start, overdue_after),
            CommitAudit::Fine,
            "no commit was requested"
        );
        tracker.take_committable(start);
        assert_eq!(
            tracker.audit(0, Some(4), start + overdue_after / 2, overdue_after),
            CommitAudit::Fine
        );
        tracker.complete(second);
        tracker.take_committable(start + overdue_after / 2);
        assert_eq!(
            tracker.audit(0, Some(4), start + overdue_after, overdue_after),
            CommitAudit::Overdue
        );
        assert_eq!(tracker.take_committable(start + overdue_after), committable(&[(0, 6)]));
        let later = start + 3 * overdue_after;
        assert_eq!(tracker.audit(0, Some(6), later, overdue_after), CommitAudit::Confirmed);
        assert_eq!(
            tracker.audit(0, Some(6), later + overdue_after, overdue_after),
            CommitAudit::Fine
        );
        assert_eq!(tracker.take_committable(later), []);
    }

    #[test]
    fn each_commit_has_its_full_time_to_be_confirmed() {
        let overdue_after = Duration::from_secs(2);
        let start = Instant::now();
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        for step in 0..10 {
            let now = start + overdue_after * step / 2;
            let ticket = admit(&mut tracker, 0, i64::from(step));
            tracker.complete(ticket);
            tracker.take_committable(now);
            // The brokers confirm each commit one step late.
            let audit = tracker.audit(0, Some(i64::from(step)), now, overdue_after);
            assert_ne!(audit, CommitAudit::Overdue);
        }
    }

    #[test]
    fn a_position_is_confirmed_by_the_brokers_only() {
        let overdue_after = Duration::from_secs(2);
        let now = Instant::now();
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        assert!(tracker.is_confirmed(0), "nothing is answered");
        for offset in 0..2 {
            let ticket = admit(&mut tracker, 0, offset);
            tracker.complete(ticket);
        }
        assert!(!tracker.is_confirmed(0), "not requested");
        tracker.take_committable(now);
        assert!(!tracker.is_confirmed(0), "requested");
        tracker.audit(0, Some(1), now, overdue_after);
        assert!(!tracker.is_confirmed(0), "the brokers hold an older one");
        tracker.audit(0, Some(2), now, overdue_after);
        assert!(tracker.is_confirmed(0));
        tracker.commit_failed(0);
        assert!(!tracker.is_confirmed(0));
        tracker.take_committable(now);
        tracker.audit(0, Some(40), now, overdue_after);
        assert!(!tracker.is_confirmed(0), "40 is the position of an earlier topic");
    }

    #[test]
    fn a_record_of_an_unassigned_partition_is_not_admitted() {
        let mut tracker = Tracker::new(8);
        assert_eq!(tracker.admit(0, 0, Instant::now()), Err(AdmitError::NotAssigned));
    }

    #[test]
    fn the_oldest_unanswered_record_is_the_one_admitted_first() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        tracker.assign(1);
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let head = tracker.admit(1, 0, start).unwrap();
        tracker.admit(0, 0, later).unwrap();
        assert_eq!(tracker.oldest_unanswered(), Some(start));
        tracker.complete(head);
        assert_eq!(tracker.oldest_unanswered(), Some(later));
    }

    const PARTITIONS: i32 = 3;
    const WINDOW_MAX: usize = 6;

    #[derive(Debug, Clone)]
    enum Action {
        Assign(i32),
        Revoke(i32),
        Admit { partition: i32, gap: i64 },
        Complete(Index),
        Commit { fails: bool },
    }

    fn action() -> impl Strategy<Value = Action> {
        let partition = 0..PARTITIONS;
        prop_oneof![
            1 => partition.clone().prop_map(Action::Assign),
            1 => partition.clone().prop_map(Action::Revoke),
            8 => (partition, 0..5_i64)
                .prop_map(|(partition, gap)| Action::Admit { partition, gap }),
            8 => any::<Index>().prop_map(Action::Complete),
            2 => any::<bool>().prop_map(|fails| Action::Commit { fails }),
        ]
    }

    /// A slow, obvious tracker: keeps every record of the current assignments.
    #[derive(Default)]
    struct NaiveTracker {
        assigned: BTreeMap<i32, Vec<AdmittedRecord>>,
        committed: BTreeMap<i32, i64>,
    }

    struct AdmittedRecord {
        offset: i64,
        is_answered: bool,
    }

    impl NaiveTracker {
        /// Returns the records before the first unanswered one.
        fn answered_prefix(&self, partition: i32) -> &[AdmittedRecord] {
            let records = &self.assigned[&partition];
            let len = records.iter().take_while(|record| record.is_answered).count();
            &records[..len]
        }

        fn window_len(&self, partition: i32) -> usize {
            self.assigned[&partition].len() - self.answered_prefix(partition).len()
        }

        fn unanswered(&self, partition: i32) -> usize {
            self.assigned[&partition].iter().filter(|record| !record.is_answered).count()
        }

        fn committable(&self, partition: i32) -> Option<i64> {
            self.answered_prefix(partition).last().map(|record| record.offset + 1)
        }

        fn due(&self) -> Vec<CommittableOffset> {
            let due = |&partition: &i32| {
                let offset = self.committable(partition)?;
                let is_committed = self.committed.get(&partition) == Some(&offset);
                (!is_committed).then_some(CommittableOffset { partition, offset })
            };
            self.assigned.keys().filter_map(due).collect()
        }
    }

    /// A ticket of the tracker and the record that it answers in the naive tracker.
    struct OpenTicket {
        ticket: SlotTicket,
        assignment: u64,
        record_index: usize,
    }

    proptest! {
        #[test]
        fn the_tracker_agrees_with_a_list_of_all_admitted_records(
            actions in prop::collection::vec(action(), 0..200),
        ) {
            let mut tracker = Tracker::new(WINDOW_MAX);
            let mut naive = NaiveTracker::default();
            let mut next_offset = 0;
            let mut tickets = Vec::new();
            let mut assignments = 0;
            let mut current = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Assign(partition) => {
                        tracker.assign(partition);
                        assignments += 1;
                        current.insert(partition, assignments);
                        naive.assigned.insert(partition, Vec::new());
                        naive.committed.remove(&partition);
                    }
                    Action::Revoke(partition) => {
                        let is_assigned = naive.assigned.contains_key(&partition);
                        let unanswered = if is_assigned { naive.unanswered(partition) } else { 0 };
                        prop_assert_eq!(tracker.revoke(partition), unanswered);
                        naive.assigned.remove(&partition);
                        naive.committed.remove(&partition);
                        current.remove(&partition);
                    }
                    Action::Admit { partition, gap } => {
                        next_offset += 1 + gap;
                        let admitted = tracker.admit(partition, next_offset, Instant::now());
                        if !naive.assigned.contains_key(&partition) {
                            prop_assert_eq!(admitted, Err(AdmitError::NotAssigned));
                            continue;
                        }
                        if naive.window_len(partition) == WINDOW_MAX {
                            prop_assert_eq!(admitted, Err(AdmitError::WindowFull));
                            continue;
                        }
                        let records = naive.assigned.get_mut(&partition).unwrap();
                        tickets.push(OpenTicket {
                            ticket: admitted.unwrap(),
                            assignment: current[&partition],
                            record_index: records.len(),
                        });
                        records.push(AdmittedRecord { offset: next_offset, is_answered: false });
                    }
                    Action::Complete(index) => {
                        if tickets.is_empty() {
                            continue;
                        }
                        let OpenTicket { ticket, assignment, record_index } =
                            tickets.swap_remove(index.index(tickets.len()));
                        let partition = ticket.partition;
                        if current.get(&partition) == Some(&assignment) {
                            prop_assert_eq!(tracker.complete(ticket), Completion::Counted);
                            let records = naive.assigned.get_mut(&partition).unwrap();
                            records[record_index].is_answered = true;
                        } else {
                            prop_assert_eq!(tracker.complete(ticket), Completion::Late);
                        }
                    }
                    Action::Commit { fails } => {
                        let due = naive.due();
                        prop_assert_eq!(tracker.take_committable(Instant::now()), due.clone());
                        for CommittableOffset { partition, offset } in due {
                            if fails {
                                tracker.commit_failed(partition);
                                naive.committed.remove(&partition);
                                continue;
                            }
                            let before = naive.committed.insert(partition, offset);
                            prop_assert!(before.is_none_or(|before| before < offset));
                        }
                    }
                }
                for &partition in naive.assigned.keys() {
                    prop_assert_eq!(tracker.committable(partition), naive.committable(partition));
                    let window_len = naive.window_len(partition);
                    prop_assert_eq!(tracker.window_len(partition), window_len);
                    prop_assert!(window_len <= WINDOW_MAX);
                    let unanswered = naive.unanswered(partition);
                    prop_assert_eq!(tracker.unanswered(|number| number == partition), unanswered);
                }
            }
        }
    }
}
