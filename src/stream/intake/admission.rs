//! Back-pressure: admits records while there is room, holds back the rest, and pauses partitions.
//!
//! A record is admitted if the budget and the window of its partition have room. Otherwise it is
//! held back, in order, and its partition is soon paused. librdkafka then drops the records that it
//! fetched ahead, and fetches them again later. A brief shortage is not worth a pause, because
//! fetching again costs more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::event::notification::{InputFormat, count_objects};
use crate::telemetry::metrics;

use crate::stream::offsets::partitions::Partitions;
use crate::stream::offsets::tracker::AdmitError;
use crate::stream::output::outbox::Outbox;
use crate::stream::record::delivery::{Delivery, Record};
use crate::stream::record::in_flight_budget::InFlightBudget;
use crate::stream::status::counts::Counts;

/// Time for which the budget may be short before partitions are paused.
const SHORTAGE_GRACE: Duration = Duration::from_millis(100);
/// Maximum number of batches that wait for the task dispatcher.
const BATCHES_MAX: usize = 64;

/// Admits records of the input topic. Partitions are numbers of that topic.
#[derive(Debug)]
pub(crate) struct Intake {
    limits: IntakeLimits,
    deliveries: mpsc::Sender<Vec<Delivery>>,
    /// Admitted records that are not sent to the tasks yet.
    batch: Vec<Delivery>,
    /// Polled records that are not admitted yet, oldest first.
    held: VecDeque<OfferedRecord>,
    paused: BTreeSet<i32>,
    last_record: BTreeMap<i32, Instant>,
    /// Ends of partitions: every record before the end was offered, and none behind it.
    ends: BTreeMap<i32, i64>,
    short_since: Option<Instant>,
}

/// The limits that a record must pass, and the counts of those that did.
#[derive(Debug)]
pub(crate) struct IntakeLimits {
    pub(crate) budget: Arc<InFlightBudget>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) window_max: usize,
    pub(crate) counts: Arc<Counts>,
    /// Decides if a record may name several objects.
    pub(crate) input_format: InputFormat,
    /// Receives the positions of tombstones; `None` unless delivery is exactly once.
    pub(crate) outbox: Option<Arc<Outbox>>,
}

/// The response to a shortage, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) pause: Vec<i32>,
    pub(crate) resume: Vec<i32>,
    /// True to wait for budget instead of polling.
    pub(crate) wait: bool,
}

/// The records and pauses of revoked partitions.
#[derive(Debug)]
pub(crate) struct Forgotten {
    /// Number of held records.
    pub(crate) records: usize,
    /// The paused ones among the partitions; their pause would survive in librdkafka.
    pub(crate) paused: Vec<i32>,
}

/// A polled record and an upper bound for its references.
#[derive(Debug)]
struct OfferedRecord {
    record: Record,
    references: usize,
}

enum Shortage {
    Budget,
    Window,
}

impl Intake {
    /// Returns the intake and the batches of records that it admits.
    pub(crate) fn new(limits: IntakeLimits) -> (Self, mpsc::Receiver<Vec<Delivery>>) {
        let (deliveries, batches) = mpsc::channel(BATCHES_MAX);
        let intake = Self {
            limits,
            deliveries,
            batch: Vec::new(),
            held: VecDeque::new(),
            paused: BTreeSet::new(),
            last_record: BTreeMap::new(),
            ends: BTreeMap::new(),
            short_since: None,
        };
        (intake, batches)
    }

    /// Admits a record, or holds it back behind earlier ones of its partition.
    pub(crate) fn offer(&mut self, record: Record, now: Instant) {
        self.last_record.insert(record.partition, now);
        // Every record before the end was offered, so this one is behind it, or the partition was
        // truncated.
        self.ends.remove(&record.partition);
        let references = match (self.limits.input_format, record.payload.as_deref()) {
            (InputFormat::Reference, _) | (_, None) => 1,
            (_, Some(payload)) => count_objects(payload),
        };
        self.admit_or_hold(OfferedRecord { record, references }, now);
    }

    fn admit_or_hold(&mut self, offered: OfferedRecord, now: Instant) {
        let waits_behind = self.short_since.is_some() || self.is_any_held(offered.record.partition);
        if waits_behind {
            self.held.push_back(offered);
            return;
        }
        match self.admit(offered, now) {
            Ok(()) => {}
            Err((offered, Shortage::Window)) => self.held.push_back(offered),
            Err((offered, Shortage::Budget)) => {
                self.short_since = Some(now);
                self.held.push_back(offered);
            }
        }
    }

    fn is_any_held(&self, partition: i32) -> bool {
        self.held.iter().any(|held| held.record.partition == partition)
    }

    /// Offers the records again that were held back.
    pub(crate) fn offer_held(&mut self, now: Instant) {
        let short_since = self.short_since.take();
        for offered in mem::take(&mut self.held) {
            self.admit_or_hold(offered, now);
        }
        // The same shortage continues.
        if self.short_since.is_some() && short_since.is_some() {
            self.short_since = short_since;
        }
    }

    /// Records that every record of a partition before `position` was offered. The last offsets
    /// before it may be transaction markers, which no poll returns.
    pub(crate) fn reached_end(&mut self, partition: i32, position: i64) {
        self.ends.insert(partition, position);
    }

    /// Moves the positions of partitions to their reached ends, once all their records are
    /// answered. Otherwise, the group would lag behind a transaction marker indefinitely.
    pub(crate) fn pass_ends(&mut self, now: Instant) {
        if self.ends.is_empty() {
            return;
        }
        let IntakeLimits { partitions, outbox, .. } = &self.limits;
        let held = &self.held;
        self.ends.retain(|&partition, &mut position| {
            let is_held = held.iter().any(|held| held.record.partition == partition);
            if is_held || partitions.window_len(partition) > 0 {
                return true;
            }
            if partitions.committable(partition).unwrap_or(0) >= position {
                return false;
            }
            // As if the last offset before the end had a record that needs no answer.
            if let Ok((ticket, _)) = partitions.admit(partition, position - 1, now) {
                if let Some(outbox) = outbox {
                    outbox.skip(ticket.slot(), position - 1);
                }
                partitions.complete(ticket);
            }
            false
        });
    }

    fn admit(
        &mut self,
        offered: OfferedRecord,
        now: Instant,
    ) -> Result<(), (OfferedRecord, Shortage)> {
        let IntakeLimits { budget, partitions, counts, outbox, .. } = &self.limits;
        let OfferedRecord { record, references } = offered;
        let is_tombstone = record.payload.is_none();
        let Some(permit) = budget.try_acquire(references, record.bytes()) else {
            return Err((OfferedRecord { record, references }, Shortage::Budget));
        };
        match partitions.admit(record.partition, record.offset, now) {
            Err(AdmitError::WindowFull) => {
                return Err((OfferedRecord { record, references }, Shortage::Window));
            }
            // Its partition was revoked: the new owner reads it.
            Err(AdmitError::NotAssigned) => return Ok(()),
            Ok((ticket, _)) if is_tombstone => {
                if let Some(outbox) = outbox {
                    outbox.skip(ticket.slot(), record.offset);
                }
                partitions.complete(ticket);
                counts.tombstones.increment();
                metrics::tombstone_skipped();
            }
            Ok((ticket, revoked)) => {
                self.batch.push(Delivery { record, ticket, revoked, received_at: now, permit });
            }
        }
        counts.received.increment();
        metrics::reference_received();
        Ok(())
    }

    /// Sends the admitted records to the tasks, as one batch. Returns true if none is left.
    pub(crate) fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        match self.deliveries.try_send(mem::take(&mut self.batch)) {
            // Without a receiver the worker is stopping, and nothing of the batch is committed.
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(batch)) => {
                self.batch = batch;
                false
            }
        }
    }

    /// Returns true if a record waits for budget or for a window.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns true if a record waits for budget.
    pub(crate) fn is_short(&self) -> bool {
        self.short_since.is_some()
    }

    /// Decides which partitions to pause and to resume. The caller must do both.
    pub(crate) fn plan(&mut self, now: Instant) -> Plan {
        let mut plan = Plan::default();
        if let Some(since) = self.short_since {
            let is_long = now.saturating_duration_since(since) >= SHORTAGE_GRACE;
            let assigned = self.limits.partitions.assigned();
            let is_running = assigned.iter().any(|number| !self.paused.contains(number));
            if is_long && is_running {
                metrics::consumer_paused();
                plan.pause = assigned;
            }
            plan.wait = !is_long && is_running;
        } else {
            plan.pause = self.held.iter().map(|held| held.record.partition).collect();
        }
        plan.pause.retain(|number| self.paused.insert(*number));
        if self.short_since.is_none() && self.limits.budget.is_half_free() {
            plan.resume = self.resumable();
        }
        for number in &plan.resume {
            self.paused.remove(number);
        }
        plan
    }

    /// Returns the paused partitions with ample room, so that they do not pause again at once.
    fn resumable(&self) -> Vec<i32> {
        let half = self.limits.window_max / 2;
        let has_room = |number: &&i32| {
            self.limits.partitions.window_len(**number) <= half && !self.is_any_held(**number)
        };
        self.paused.iter().filter(has_room).copied().collect()
    }

    /// Drops the records that were held back. Returns the partitions that are not paused yet; the
    /// caller must pause them and offer no record any more.
    pub(crate) fn stop(&mut self) -> Vec<i32> {
        self.held.clear();
        // Records that are dropped from now on are before these ends.
        self.ends.clear();
        self.short_since = None;
        let mut running = self.limits.partitions.assigned();
        running.retain(|number| self.paused.insert(*number));
        running
    }

    /// Records that a partition was assigned.
    pub(crate) fn assigned(&mut self, partition: i32, now: Instant) {
        self.last_record.insert(partition, now);
    }

    /// Drops the held records of revoked partitions, unanswered.
    pub(crate) fn forget(&mut self, partitions: &[i32]) -> Forgotten {
        let held = self.held.len();
        self.held.retain(|held| !partitions.contains(&held.record.partition));
        let records = held - self.held.len();
        for number in partitions {
            self.last_record.remove(number);
            self.ends.remove(number);
        }
        let paused = partitions.iter().copied().filter(|number| self.paused.remove(number));
        Forgotten { records, paused: paused.collect() }
    }

    /// Returns true if the partition is not paused and had no record for the time `limit`.
    pub(crate) fn is_silent(&self, partition: i32, limit: Duration, now: Instant) -> bool {
        let last = self.last_record.get(&partition);
        !self.paused.contains(&partition)
            && last.is_some_and(|last| now.saturating_duration_since(*last) >= limit)
    }

    /// Restarts the clock of [`Intake::is_silent`].
    pub(crate) fn woken(&mut self, partition: i32, now: Instant) {
        self.last_record.entry(partition).and_modify(|last| *last = now);
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    struct Fixture {
        intake: Intake,
        budget: Arc<InFlightBudget>,
        partitions: Arc<Partitions>,
        batches: mpsc::Receiver<Vec<Delivery>>,
        now: Instant,
    }

    fn fixture(in_flight_max: usize, window_max: usize) -> Fixture {
        let budget = InFlightBudget::new(in_flight_max, 1 << 20);
        let partitions = Arc::new(Partitions::new(window_max));
        for number in [0, 1] {
            partitions.assign(number, &CancellationToken::new());
        }
        let (intake, batches) = Intake::new(IntakeLimits {
            budget: Arc::clone(&budget),
            partitions: Arc::clone(&partitions),
            window_max,
            counts: Arc::default(),
            input_format: InputFormat::Auto,
            outbox: None,
        });
        Fixture { intake, budget, partitions, batches, now: Instant::now() }
    }

    impl Fixture {
        fn offer(&mut self, partition: i32, offset: i64) {
            let record = Record {
                partition,
                offset,
                timestamp_ms: None,
                key: None,
                payload: Some(b"{}".to_vec()),
                headers: None,
            };
            self.intake.offer(record, self.now);
        }

        fn delivered(&mut self) -> Vec<Delivery> {
            assert!(self.intake.flush());
            let mut all = Vec::new();
            while let Ok(batch) = self.batches.try_recv() {
                all.extend(batch);
            }
            all
        }

        fn answer(&self, delivery: Delivery) {
            self.partitions.complete(delivery.ticket);
        }
    }

    fn positions(deliveries: &[Delivery]) -> Vec<(i32, i64)> {
        deliveries.iter().map(|d| (d.record.partition, d.record.offset)).collect()
    }

    #[test]
    fn a_brief_shortage_waits_and_a_long_one_pauses_until_half_is_free() {
        let mut fixture = fixture(4, 100);
        for offset in 0..5 {
            fixture.offer(0, offset);
        }
        let Fixture { intake, now, .. } = &mut fixture;
        assert_eq!(intake.plan(*now), Plan { wait: true, ..Plan::default() });
        *now += SHORTAGE_GRACE;
        assert_eq!(intake.plan(*now), Plan { pause: vec![0, 1], ..Plan::default() });
        assert_eq!(intake.plan(*now), Plan::default(), "paused once");

        let mut deliveries = fixture.delivered();
        assert_eq!(positions(&deliveries), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        let first = deliveries.remove(0);
        fixture.answer(first);
        let Fixture { intake, now, .. } = &mut fixture;
        intake.offer_held(*now);
        assert!(!intake.is_holding());
        assert_eq!(intake.plan(*now), Plan::default(), "less than half is free");
        let held = fixture.delivered();
        assert_eq!(positions(&held), [(0, 4)]);
        deliveries.drain(..2).for_each(|delivery| fixture.answer(delivery));
        let Fixture { intake, now, .. } = &mut fixture;
        assert_eq!(intake.plan(*now), Plan { resume: vec![0, 1], ..Plan::default() });
    }

    #[test]
    fn a_full_window_pauses_its_partition_only() {
        let mut fixture = fixture(100, 2);
        for offset in 0..4 {
            fixture.offer(0, offset);
        }
        fixture.offer(1, 0);
        let deliveries = fixture.delivered();
        assert_eq!(positions(&deliveries), [(0, 0), (0, 1), (1, 0)]);
        let Fixture { intake, now, .. } = &mut fixture;
        assert_eq!(intake.plan(*now), Plan { pause: vec![0], ..Plan::default() });
        for delivery in deliveries {
            fixture.answer(delivery);
        }
        let Fixture { intake, now, .. } = &mut fixture;
        intake.offer_held(*now);
        assert_eq!(intake.plan(*now), Plan::default(), "its window is full again");
        let deliveries = fixture.delivered();
        assert_eq!(positions(&deliveries), [(0, 2), (0, 3)]);
        for delivery in deliveries {
            fixture.answer(delivery);
        }
        let Fixture { intake, now, .. } = &mut fixture;
        assert_eq!(intake.plan(*now), Plan { resume: vec![0], ..Plan::default() });
    }

    #[test]
    fn held_records_of_a_revoked_partition_are_dropped() {
        let mut fixture = fixture(1, 100);
        for partition in [0, 1, 0] {
            fixture.offer(partition, 7);
        }
        let Fixture { intake, now, .. } = &mut fixture;
        *now += SHORTAGE_GRACE;
        intake.plan(*now);
        let forgotten = intake.forget(&[0]);
        assert_eq!(forgotten.paused, [0], "its pause has to be lifted");
        assert_eq!(forgotten.records, 1);
        drop(fixture.delivered());
        let Fixture { intake, now, .. } = &mut fixture;
        intake.offer_held(*now);
        assert_eq!(positions(&fixture.delivered()), [(1, 7)]);
    }

    #[test]
    fn a_stop_drops_held_records_and_returns_the_partitions_to_pause() {
        let mut fixture = fixture(1, 100);
        fixture.offer(0, 1);
        fixture.offer(0, 2);
        assert!(fixture.intake.is_holding());
        assert_eq!(fixture.intake.stop(), [0, 1]);
        assert!(!fixture.intake.is_holding());
        assert_eq!(positions(&fixture.delivered()), [(0, 1)]);
    }

    #[test]
    fn an_end_is_passed_once_every_record_before_it_is_answered() {
        let mut fixture = fixture(1, 100);
        fixture.offer(0, 4);
        fixture.offer(0, 5);
        // Two transaction markers follow.
        fixture.intake.reached_end(0, 8);
        fixture.intake.reached_end(1, 0);
        fixture.intake.pass_ends(fixture.now);
        assert_eq!(fixture.partitions.committable(1), None, "nothing to pass");
        let first = fixture.delivered().remove(0);
        fixture.answer(first);
        fixture.intake.pass_ends(fixture.now);
        assert_eq!(fixture.partitions.committable(0), Some(5), "a record is held back");
        fixture.intake.offer_held(fixture.now);
        let second = fixture.delivered().remove(0);
        fixture.intake.pass_ends(fixture.now);
        assert_eq!(fixture.partitions.committable(0), Some(5), "a record is unanswered");
        fixture.answer(second);
        fixture.intake.pass_ends(fixture.now);
        assert_eq!(fixture.partitions.committable(0), Some(8));
    }

    #[test]
    fn an_end_before_a_later_record_is_not_passed() {
        let mut fixture = fixture(4, 100);
        fixture.intake.reached_end(0, 8);
        fixture.offer(0, 9);
        fixture.intake.pass_ends(fixture.now);
        assert_eq!(fixture.partitions.committable(0), None);
        fixture.intake.reached_end(0, 12);
        fixture.intake.stop();
        let delivery = fixture.delivered().remove(0);
        fixture.answer(delivery);
        fixture.intake.pass_ends(fixture.now);
        assert_eq!(fixture.partitions.committable(0), Some(10), "a stop drops later records");
    }

    #[test]
    fn an_end_is_void_once_the_partition_restarts_before_it() {
        let mut fixture = fixture(4, 100);
        fixture.offer(0, 99);
        fixture.intake.reached_end(0, 100);
        fixture.offer(0, 0);
        for delivery in fixture.delivered() {
            fixture.answer(delivery);
        }
        fixture.intake.pass_ends(fixture.now);
        assert_ne!(fixture.partitions.committable(0), Some(100), "99 records are not read yet");
    }

    #[test]
    fn a_tombstone_is_answered_at_once() {
        let mut fixture = fixture(4, 100);
        let record = Record {
            partition: 0,
            offset: 3,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: None,
        };
        fixture.intake.offer(record, fixture.now);
        assert_eq!(fixture.partitions.committable(0), Some(4));
        assert_eq!(fixture.budget.references(), 0);
        assert!(fixture.delivered().is_empty());
    }
}
