//! What is taken in, what is held back, and which partitions are paused: back-pressure.
//!
//! A record is taken in when the budget and its partition's window have room. Otherwise it is held
//! back, in order, and before long its partition is paused: librdkafka then drops what it fetched
//! ahead and fetches it again later. A short shortage is waited out instead, a fetch is dearer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::telemetry::metrics;

use crate::stream::offsets::tracker::Refused;
use crate::stream::record::delivery::{Delivery, Record};
use crate::stream::settings::DeliveryMode;
use crate::stream::shared::{Counts, Shared};

/// How long a shortage of budget lasts before partitions are paused.
const SHORTAGE_GRACE: Duration = Duration::from_millis(100);

/// The state of the polling thread that its callbacks share. Partitions are numbers of the input
/// topic.
#[derive(Debug)]
pub(crate) struct Intake {
    deliveries: mpsc::Sender<Vec<Delivery>>,
    /// Taken in and not yet handed to the tasks.
    batch: Vec<Delivery>,
    /// Polled and not taken in, oldest first.
    held: VecDeque<Record>,
    paused: BTreeSet<i32>,
    last_record: BTreeMap<i32, Instant>,
    short_since: Option<Instant>,
    stopped: bool,
}

/// What to do about the shortage, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) pause: Vec<i32>,
    pub(crate) resume: Vec<i32>,
    /// Whether to wait for budget instead of polling.
    pub(crate) wait: bool,
}

enum Shortage {
    Budget,
    Window,
}

impl Intake {
    pub(crate) fn new(deliveries: mpsc::Sender<Vec<Delivery>>) -> Self {
        Self {
            deliveries,
            batch: Vec::new(),
            held: VecDeque::new(),
            paused: BTreeSet::new(),
            last_record: BTreeMap::new(),
            short_since: None,
            stopped: false,
        }
    }

    /// Takes a record in, or holds it back behind those that are held back already.
    pub(crate) fn offer(&mut self, record: Record, shared: &Shared, now: Instant) {
        if self.stopped {
            return;
        }
        self.last_record.insert(record.partition, now);
        let waits_behind = self.short_since.is_some()
            || self.held.iter().any(|held| held.partition == record.partition);
        if waits_behind {
            self.held.push_back(record);
            return;
        }
        match self.take_in(record, shared, now) {
            Ok(()) => {}
            Err((record, Shortage::Window)) => self.held.push_back(record),
            Err((record, Shortage::Budget)) => {
                self.short_since = Some(now);
                self.held.push_back(record);
            }
        }
    }

    /// Tries again to take in what is held back.
    pub(crate) fn offer_held(&mut self, shared: &Shared, now: Instant) {
        let short_since = self.short_since.take();
        for record in mem::take(&mut self.held) {
            self.offer(record, shared, now);
        }
        // The same shortage goes on.
        if self.short_since.is_some() && short_since.is_some() {
            self.short_since = short_since;
        }
    }

    fn take_in(
        &mut self,
        record: Record,
        shared: &Shared,
        now: Instant,
    ) -> Result<(), (Record, Shortage)> {
        let is_tombstone = record.payload.is_none();
        let Some(permit) = shared.budget.try_take(record.bytes()) else {
            return Err((record, Shortage::Budget));
        };
        match shared.partitions.admit(record.partition, record.offset, now) {
            Err(Refused::Full) => return Err((record, Shortage::Window)),
            // Its partition was taken away: the new owner reads it.
            Err(Refused::NotAssigned) => return Ok(()),
            Ok((ticket, _)) if is_tombstone => {
                if shared.settings.delivery == DeliveryMode::ExactlyOnce {
                    shared.outbox.skip(ticket.slot(), record.offset);
                }
                shared.partitions.complete(ticket);
                Counts::add(&shared.counts.tombstones);
                metrics::tombstone_skipped();
            }
            Ok((ticket, revoked)) => {
                self.batch.push(Delivery { record, ticket, revoked, taken_in: now, permit });
            }
        }
        Counts::add(&shared.counts.received);
        metrics::reference_received();
        Ok(())
    }

    /// Hands what was taken in to the tasks, as one batch. True when nothing is left behind.
    pub(crate) fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        match self.deliveries.try_send(mem::take(&mut self.batch)) {
            // Without a receiver the worker is ending; nothing of the batch is committed.
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(batch)) => {
                self.batch = batch;
                false
            }
        }
    }

    /// Whether something waits for budget or for a window.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether something waits for budget.
    pub(crate) fn is_short(&self) -> bool {
        self.short_since.is_some()
    }

    /// Decides what to pause and what to resume, and takes it for done.
    pub(crate) fn plan(&mut self, shared: &Shared, now: Instant) -> Plan {
        if self.stopped {
            return Plan::default();
        }
        let mut plan = Plan::default();
        if let Some(since) = self.short_since {
            let is_long = now.saturating_duration_since(since) >= SHORTAGE_GRACE;
            let assigned = shared.partitions.assigned();
            let is_running = assigned.iter().any(|number| !self.paused.contains(number));
            if is_long && is_running {
                metrics::consumer_paused();
                plan.pause = assigned;
            }
            plan.wait = !is_long && is_running;
        } else {
            plan.pause = self.held.iter().map(|record| record.partition).collect();
        }
        plan.pause.retain(|number| self.paused.insert(*number));
        if self.short_since.is_none() && shared.budget.is_half_free() {
            plan.resume = self.resumable(shared);
        }
        for number in &plan.resume {
            self.paused.remove(number);
        }
        plan
    }

    /// Paused partitions whose shortage is well over, so that they do not pause again at once.
    fn resumable(&self, shared: &Shared) -> Vec<i32> {
        let half = shared.settings.window_max.get() / 2;
        let is_over = |number: &&i32| {
            shared.partitions.window_len(**number) <= half
                && !self.held.iter().any(|record| record.partition == **number)
        };
        self.paused.iter().filter(is_over).copied().collect()
    }

    /// Takes nothing in any more; gives the partitions that run.
    pub(crate) fn stop(&mut self, shared: &Shared) -> Vec<i32> {
        self.stopped = true;
        self.held.clear();
        self.short_since = None;
        let mut running = shared.partitions.assigned();
        running.retain(|number| self.paused.insert(*number));
        running
    }

    /// A partition was given to us.
    pub(crate) fn assigned(&mut self, partition: i32, now: Instant) {
        self.last_record.insert(partition, now);
    }

    /// Partitions are taken away: what is held back of them is dropped, unanswered. Gives those of
    /// them that are paused; their pause would survive in librdkafka.
    pub(crate) fn forget(&mut self, partitions: &[i32]) -> Vec<i32> {
        self.held.retain(|record| !partitions.contains(&record.partition));
        for number in partitions {
            self.last_record.remove(number);
        }
        let paused = partitions.iter().copied().filter(|number| self.paused.remove(number));
        paused.collect()
    }

    /// Whether the partition runs and has brought no record for so long.
    pub(crate) fn is_silent(&self, partition: i32, since: Duration, now: Instant) -> bool {
        let last = self.last_record.get(&partition);
        !self.paused.contains(&partition)
            && last.is_some_and(|last| now.saturating_duration_since(*last) >= since)
    }

    /// Restarts the clock of [`Intake::is_silent`].
    pub(crate) fn woken(&mut self, partition: i32, now: Instant) {
        self.last_record.entry(partition).and_modify(|last| *last = now);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::stream::settings::Settings;

    struct Fixture {
        intake: Intake,
        shared: Shared,
        batches: mpsc::Receiver<Vec<Delivery>>,
        now: Instant,
    }

    fn fixture(in_flight_max: usize, window_max: usize) -> Fixture {
        let settings = Settings {
            in_flight_max: NonZeroUsize::new(in_flight_max).unwrap(),
            window_max: NonZeroUsize::new(window_max).unwrap(),
            ..Settings::default()
        };
        let (deliveries, batches) = mpsc::channel(4);
        let shared = Shared::new(settings);
        for number in [0, 1] {
            shared.partitions.assign(number, &shared.tasks);
        }
        Fixture { intake: Intake::new(deliveries), shared, batches, now: Instant::now() }
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
            self.intake.offer(record, &self.shared, self.now);
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
            self.shared.partitions.complete(delivery.ticket);
        }
    }

    fn places(deliveries: &[Delivery]) -> Vec<(i32, i64)> {
        deliveries.iter().map(|d| (d.record.partition, d.record.offset)).collect()
    }

    #[test]
    fn a_short_shortage_is_waited_out_and_a_long_one_pauses_until_half_is_free() {
        let mut fixture = fixture(4, 100);
        for offset in 0..5 {
            fixture.offer(0, offset);
        }
        let Fixture { intake, shared, now, .. } = &mut fixture;
        assert_eq!(intake.plan(shared, *now), Plan { wait: true, ..Plan::default() });
        *now += SHORTAGE_GRACE;
        assert_eq!(intake.plan(shared, *now), Plan { pause: vec![0, 1], ..Plan::default() });
        assert_eq!(intake.plan(shared, *now), Plan::default(), "paused once");

        let mut deliveries = fixture.delivered();
        assert_eq!(places(&deliveries), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        let first = deliveries.remove(0);
        fixture.answer(first);
        let Fixture { intake, shared, now, .. } = &mut fixture;
        intake.offer_held(shared, *now);
        assert!(!intake.is_holding());
        assert_eq!(intake.plan(shared, *now), Plan::default(), "less than half is free");
        let held = fixture.delivered();
        assert_eq!(places(&held), [(0, 4)]);
        deliveries.drain(..2).for_each(|delivery| fixture.answer(delivery));
        let Fixture { intake, shared, now, .. } = &mut fixture;
        assert_eq!(intake.plan(shared, *now), Plan { resume: vec![0, 1], ..Plan::default() });
    }

    #[test]
    fn a_full_window_pauses_its_partition_only() {
        let mut fixture = fixture(100, 2);
        for offset in 0..4 {
            fixture.offer(0, offset);
        }
        fixture.offer(1, 0);
        let deliveries = fixture.delivered();
        assert_eq!(places(&deliveries), [(0, 0), (0, 1), (1, 0)]);
        let Fixture { intake, shared, now, .. } = &mut fixture;
        assert_eq!(intake.plan(shared, *now), Plan { pause: vec![0], ..Plan::default() });
        for delivery in deliveries {
            fixture.answer(delivery);
        }
        let Fixture { intake, shared, now, .. } = &mut fixture;
        intake.offer_held(shared, *now);
        assert_eq!(intake.plan(shared, *now), Plan::default(), "its window is full again");
        let deliveries = fixture.delivered();
        assert_eq!(places(&deliveries), [(0, 2), (0, 3)]);
        for delivery in deliveries {
            fixture.answer(delivery);
        }
        let Fixture { intake, shared, now, .. } = &mut fixture;
        assert_eq!(intake.plan(shared, *now), Plan { resume: vec![0], ..Plan::default() });
    }

    #[test]
    fn what_is_held_back_of_a_lost_partition_is_dropped() {
        let mut fixture = fixture(1, 100);
        for partition in [0, 1, 0] {
            fixture.offer(partition, 7);
        }
        let Fixture { intake, shared, now, .. } = &mut fixture;
        *now += SHORTAGE_GRACE;
        intake.plan(shared, *now);
        assert_eq!(intake.forget(&[0]), [0], "its pause has to be lifted");
        drop(fixture.delivered());
        let Fixture { intake, shared, now, .. } = &mut fixture;
        intake.offer_held(shared, *now);
        assert_eq!(places(&fixture.delivered()), [(1, 7)]);
    }

    #[test]
    fn a_stopped_intake_takes_nothing_and_gives_the_partitions_to_pause() {
        let mut fixture = fixture(1, 100);
        let Fixture { intake, shared, .. } = &mut fixture;
        assert_eq!(intake.stop(shared), [0, 1]);
        fixture.offer(0, 1);
        assert!(fixture.delivered().is_empty());
        assert_eq!(fixture.shared.partitions.in_flight().0, 0);
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
        fixture.intake.offer(record, &fixture.shared, fixture.now);
        assert_eq!(fixture.shared.partitions.position(0), Some(4));
        assert_eq!(fixture.shared.budget.records(), 0);
        assert!(fixture.delivered().is_empty());
    }
}
