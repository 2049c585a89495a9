//! Which offset may be committed: the pure heart of the promise that nothing is lost.
//!
//! Each assigned partition has a window. A record taken in gets the next place in it; answers come
//! in any order; places leave at the front only, when they are answered. What may be committed is
//! the offset after the last place that left, so an offset is never committed before every earlier
//! one is answered. Places are counted, not computed from offsets: offsets have gaps (compaction,
//! transaction markers).
//!
//! A partition that is assigned anew starts an empty window with a new epoch. An answer for a place
//! of an earlier epoch is late: somebody else owns the record, so it changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// A record's place in the window of its partition. Not `Clone`: a record is answered once.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    partition: i32,
    epoch: u64,
    sequence: u64,
}

/// What a ticket says, for those who do not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RecordSlot {
    /// Number of the partition.
    pub(crate) partition: i32,
    /// Of the assignment; later ones are greater.
    pub(crate) epoch: u64,
    /// Counted from the assignment's first record.
    pub(crate) sequence: u64,
}

impl Ticket {
    /// Where the record stands.
    pub(crate) fn slot(&self) -> RecordSlot {
        RecordSlot { partition: self.partition, epoch: self.epoch, sequence: self.sequence }
    }
}

/// Why a record cannot be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The window is full: its head has to be answered first.
    Full,
    /// The partition is not ours (any more).
    NotAssigned,
}

/// What an answer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    /// The place counts as answered.
    Counted,
    /// The place belongs to an assignment that is over.
    Late,
}

/// How a commit fared, as far as the brokers' own view of it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audit {
    /// Nothing waits to be confirmed, or not for long.
    Fine,
    /// A position that waited is committed.
    Confirmed,
    /// A position waited too long; it is due again.
    Overdue,
}

/// A partition and the offset a reader of the group would continue from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Number of the partition.
    pub(crate) partition: i32,
    /// One past the last answered record.
    pub(crate) offset: i64,
}

/// The windows of all assigned partitions.
#[derive(Debug)]
pub(crate) struct Tracker {
    window_max: usize,
    epochs: u64,
    windows: BTreeMap<i32, Window>,
    completions: usize,
}

#[derive(Debug)]
struct Window {
    epoch: u64,
    /// Sequence number of the first slot.
    base_sequence: u64,
    slots: VecDeque<Slot>,
    unfinished: usize,
    /// One past the last popped offset.
    position: Option<i64>,
    /// The position that was last handed out for a commit.
    requested: Option<i64>,
    /// The earliest such position that is not known to be committed, and when it was handed out.
    unconfirmed: Option<(i64, Instant)>,
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    taken_in: Instant,
    done: bool,
}

impl Tracker {
    /// No partition yet; each window will hold at most `window_max` places, answered ones included.
    pub(crate) fn new(window_max: usize) -> Self {
        Self { window_max, epochs: 0, windows: BTreeMap::new(), completions: 0 }
    }

    /// Starts an empty window; every ticket of an earlier one is late from here on.
    pub(crate) fn assign(&mut self, partition: i32) {
        self.epochs += 1;
        let window = Window {
            epoch: self.epochs,
            base_sequence: 0,
            slots: VecDeque::new(),
            unfinished: 0,
            position: None,
            requested: None,
            unconfirmed: None,
        };
        self.windows.insert(partition, window);
    }

    /// Forgets the window; gives the number of records in it that were not answered.
    pub(crate) fn revoke(&mut self, partition: i32) -> usize {
        self.windows.remove(&partition).map_or(0, |window| window.unfinished)
    }

    /// Gives the record at `offset` the next place of its partition.
    ///
    /// # Errors
    /// When the window is full or the partition is not assigned.
    pub(crate) fn admit(
        &mut self,
        partition: i32,
        offset: i64,
        now: Instant,
    ) -> Result<Ticket, Refused> {
        let window = self.windows.get_mut(&partition).ok_or(Refused::NotAssigned)?;
        if window.slots.len() >= self.window_max {
            return Err(Refused::Full);
        }
        let sequence = window.base_sequence + window.slots.len() as u64;
        window.slots.push_back(Slot { offset, taken_in: now, done: false });
        window.unfinished += 1;
        Ok(Ticket { partition, epoch: window.epoch, sequence })
    }

    /// Notes that the record of this ticket is answered, durably.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket that is given away completes once")]
    pub(crate) fn complete(&mut self, ticket: Ticket) -> Completion {
        let Ticket { partition, epoch, sequence } = ticket;
        let window = self.windows.get_mut(&partition).filter(|window| window.epoch == epoch);
        let Some(window) = window else { return Completion::Late };
        window.finish(sequence);
        self.completions += 1;
        Completion::Counted
    }

    /// Answers since positions were last taken.
    pub(crate) fn completions(&self) -> usize {
        self.completions
    }

    /// The positions that moved since they were last taken. They count as requested until
    /// [`Tracker::request_failed`].
    pub(crate) fn take_changed(&mut self, now: Instant) -> Vec<Position> {
        self.completions = 0;
        let mut changed = Vec::new();
        for (partition, window) in &mut self.windows {
            if let Some(offset) = window.position.filter(|_| window.position != window.requested) {
                window.requested = window.position;
                window.unconfirmed.get_or_insert((offset, now));
                changed.push(Position { partition: *partition, offset });
            }
        }
        changed
    }

    /// The commit of the partition's position did not succeed: it is due again.
    pub(crate) fn request_failed(&mut self, partition: i32) {
        if let Some(window) = self.windows.get_mut(&partition) {
            window.requested = None;
            window.unconfirmed = None;
        }
    }

    /// Compares what was handed out with what the brokers hold. What waits for `patience` is due
    /// again.
    pub(crate) fn audit(
        &mut self,
        partition: i32,
        committed: Option<i64>,
        now: Instant,
        patience: Duration,
    ) -> Audit {
        let Some(window) = self.windows.get_mut(&partition) else { return Audit::Fine };
        let Some((offset, since)) = window.unconfirmed else { return Audit::Fine };
        if committed >= Some(offset) {
            let later = window.requested.filter(|requested| Some(*requested) > committed);
            window.unconfirmed = later.map(|requested| (requested, now));
            return Audit::Confirmed;
        }
        if now.saturating_duration_since(since) < patience {
            return Audit::Fine;
        }
        self.request_failed(partition);
        Audit::Overdue
    }

    /// Where the group would continue, for partitions of which something was answered.
    pub(crate) fn position(&self, partition: i32) -> Option<i64> {
        self.windows.get(&partition)?.position
    }

    /// Numbers of the assigned partitions.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.windows.keys().copied()
    }

    /// Records taken in and not answered, of the partitions that `which` picks.
    pub(crate) fn unfinished(&self, which: impl Fn(i32) -> bool) -> usize {
        let picked = self.windows.iter().filter(|(number, _)| which(**number));
        picked.map(|(_, window)| window.unfinished).sum()
    }

    /// Places in use in the window of a partition, answered ones behind an open head included.
    pub(crate) fn window_len(&self, partition: i32) -> usize {
        self.windows.get(&partition).map_or(0, |window| window.slots.len())
    }

    /// When the longest-waiting unanswered record was taken in.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        // The front slot is never done: it would have left.
        self.windows.values().filter_map(|window| Some(window.slots.front()?.taken_in)).min()
    }
}

impl Window {
    fn finish(&mut self, sequence: u64) {
        let slot = sequence
            .checked_sub(self.base_sequence)
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.slots.get_mut(index));
        let slot = slot.expect("a ticket of this epoch is given once, for a slot that is open");
        debug_assert!(!slot.done, "a ticket completes once");
        slot.done = true;
        self.unfinished -= 1;
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.done) {
            self.base_sequence += 1;
            self.position = Some(slot.offset + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn positions(pairs: &[(i32, i64)]) -> Vec<Position> {
        pairs.iter().map(|&(partition, offset)| Position { partition, offset }).collect()
    }

    fn admit(tracker: &mut Tracker, partition: i32, offset: i64) -> Ticket {
        tracker.admit(partition, offset, Instant::now()).unwrap()
    }

    #[test]
    fn an_offset_waits_for_every_earlier_one() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let [first, second, third] = [10, 11, 15].map(|offset| admit(&mut tracker, 0, offset));
        tracker.complete(third);
        tracker.complete(second);
        assert_eq!(tracker.take_changed(Instant::now()), []);
        tracker.complete(first);
        assert_eq!(tracker.take_changed(Instant::now()), positions(&[(0, 16)]));
        assert_eq!(tracker.take_changed(Instant::now()), [], "only what changed is committed");
    }

    #[test]
    fn a_full_window_refuses_until_its_head_is_answered() {
        let mut tracker = Tracker::new(2);
        tracker.assign(3);
        let head = admit(&mut tracker, 3, 0);
        let next = admit(&mut tracker, 3, 1);
        tracker.complete(next);
        assert_eq!(tracker.admit(3, 2, Instant::now()), Err(Refused::Full));
        assert_eq!(tracker.window_len(3), 2, "an answered record behind the head takes a place");
        tracker.complete(head);
        assert!(tracker.admit(3, 2, Instant::now()).is_ok());
    }

    #[test]
    fn an_answer_of_an_earlier_assignment_is_late() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let stale = admit(&mut tracker, 0, 7);
        assert_eq!(tracker.revoke(0), 1);
        tracker.assign(0);
        let fresh = admit(&mut tracker, 0, 7);
        assert_eq!(tracker.complete(stale), Completion::Late);
        assert_eq!(tracker.take_changed(Instant::now()), []);
        assert_eq!(tracker.complete(fresh), Completion::Counted);
        assert_eq!(tracker.take_changed(Instant::now()), positions(&[(0, 8)]));
    }

    #[test]
    fn a_failed_commit_is_due_again() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let ticket = admit(&mut tracker, 0, 4);
        tracker.complete(ticket);
        assert_eq!(tracker.take_changed(Instant::now()), positions(&[(0, 5)]));
        tracker.request_failed(0);
        assert_eq!(tracker.take_changed(Instant::now()), positions(&[(0, 5)]));
    }

    #[test]
    fn a_commit_that_does_not_arrive_is_due_again() {
        let patience = Duration::from_secs(2);
        let start = Instant::now();
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        let [first, second] = [4, 5].map(|offset| admit(&mut tracker, 0, offset));
        tracker.complete(first);
        assert_eq!(tracker.audit(0, None, start, patience), Audit::Fine, "nothing was handed out");
        tracker.take_changed(start);
        assert_eq!(tracker.audit(0, Some(4), start + patience / 2, patience), Audit::Fine);
        tracker.complete(second);
        tracker.take_changed(start + patience / 2);
        assert_eq!(tracker.audit(0, Some(4), start + patience, patience), Audit::Overdue);
        assert_eq!(tracker.take_changed(start + patience), positions(&[(0, 6)]));
        let later = start + 3 * patience;
        assert_eq!(tracker.audit(0, Some(6), later, patience), Audit::Confirmed);
        assert_eq!(tracker.audit(0, Some(6), later + patience, patience), Audit::Fine);
        assert_eq!(tracker.take_changed(later), []);
    }

    #[test]
    fn a_later_commit_has_its_own_time_to_arrive() {
        let patience = Duration::from_secs(2);
        let start = Instant::now();
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        for step in 0..10 {
            let now = start + patience * step / 2;
            let ticket = admit(&mut tracker, 0, i64::from(step));
            tracker.complete(ticket);
            tracker.take_changed(now);
            // The brokers are always one commit behind.
            let audit = tracker.audit(0, Some(i64::from(step)), now, patience);
            assert_ne!(audit, Audit::Overdue);
        }
    }

    #[test]
    fn a_record_of_a_partition_that_is_not_ours_is_refused() {
        let mut tracker = Tracker::new(8);
        assert_eq!(tracker.admit(0, 0, Instant::now()), Err(Refused::NotAssigned));
    }

    #[test]
    fn the_oldest_is_the_head_that_waits_longest() {
        let mut tracker = Tracker::new(8);
        tracker.assign(0);
        tracker.assign(1);
        let start = Instant::now();
        let later = start + std::time::Duration::from_secs(5);
        let head = tracker.admit(1, 0, start).unwrap();
        tracker.admit(0, 0, later).unwrap();
        assert_eq!(tracker.oldest(), Some(start));
        tracker.complete(head);
        assert_eq!(tracker.oldest(), Some(later));
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
            8 => (partition, 0..5_i64).prop_map(|(partition, gap)| Action::Admit { partition, gap }),
            8 => any::<Index>().prop_map(Action::Complete),
            2 => any::<bool>().prop_map(|fails| Action::Commit { fails }),
        ]
    }

    /// What the tracker should be: every record of the current assignment, kept for ever.
    #[derive(Default)]
    struct Model {
        assignment: BTreeMap<i32, Vec<(i64, bool)>>,
        committed: BTreeMap<i32, i64>,
    }

    impl Model {
        fn popped(&self, partition: i32) -> usize {
            self.assignment[&partition].iter().take_while(|(_, done)| *done).count()
        }

        fn position(&self, partition: i32) -> Option<i64> {
            let popped = self.popped(partition);
            self.assignment[&partition][..popped].last().map(|(offset, _)| offset + 1)
        }

        fn due(&self) -> Vec<Position> {
            let due = |&partition: &i32| {
                let offset = self.position(partition)?;
                let committed = self.committed.get(&partition) == Some(&offset);
                (!committed).then_some(Position { partition, offset })
            };
            self.assignment.keys().filter_map(due).collect()
        }
    }

    proptest! {
        #[test]
        fn the_tracker_agrees_with_a_list_of_everything(
            actions in prop::collection::vec(action(), 0..200),
        ) {
            let mut tracker = Tracker::new(WINDOW_MAX);
            let mut model = Model::default();
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
                        model.assignment.insert(partition, Vec::new());
                        model.committed.remove(&partition);
                    }
                    Action::Revoke(partition) => {
                        let records = model.assignment.remove(&partition).unwrap_or_default();
                        let open = records.iter().filter(|(_, done)| !done).count();
                        prop_assert_eq!(tracker.revoke(partition), open);
                        current.remove(&partition);
                        model.committed.remove(&partition);
                    }
                    Action::Admit { partition, gap } => {
                        next_offset += 1 + gap;
                        let given = tracker.admit(partition, next_offset, Instant::now());
                        let Some(records) = model.assignment.get_mut(&partition) else {
                            prop_assert_eq!(given, Err(Refused::NotAssigned));
                            continue;
                        };
                        let popped = records.iter().take_while(|(_, done)| *done).count();
                        if records.len() - popped == WINDOW_MAX {
                            prop_assert_eq!(given, Err(Refused::Full));
                            continue;
                        }
                        tickets.push((given.unwrap(), current[&partition], records.len()));
                        records.push((next_offset, false));
                    }
                    Action::Complete(index) => {
                        if tickets.is_empty() {
                            continue;
                        }
                        let (ticket, assignment, place) =
                            tickets.swap_remove(index.index(tickets.len()));
                        let partition = ticket.partition;
                        let is_current = current.get(&partition) == Some(&assignment);
                        if is_current {
                            prop_assert_eq!(tracker.complete(ticket), Completion::Counted);
                            model.assignment.get_mut(&partition).unwrap()[place].1 = true;
                        } else {
                            prop_assert_eq!(tracker.complete(ticket), Completion::Late);
                        }
                    }
                    Action::Commit { fails } => {
                        let due = model.due();
                        prop_assert_eq!(tracker.take_changed(Instant::now()), due.clone());
                        for Position { partition, offset } in due {
                            if fails {
                                tracker.request_failed(partition);
                                model.committed.remove(&partition);
                                continue;
                            }
                            let before = model.committed.insert(partition, offset);
                            prop_assert!(before.is_none_or(|before| before < offset));
                        }
                    }
                }
                for (&partition, records) in &model.assignment {
                    prop_assert_eq!(tracker.position(partition), model.position(partition));
                    let places = records.len() - model.popped(partition);
                    prop_assert_eq!(tracker.window_len(partition), places);
                    prop_assert!(places <= WINDOW_MAX);
                    let open = records.iter().filter(|(_, done)| !done).count();
                    prop_assert_eq!(tracker.unfinished(|number| number == partition), open);
                }
            }
        }
    }
}
