//! The polling thread. It owns the consumer, and makes every call that may block on the brokers.
//!
//! A consumer must be polled continuously, or the group reassigns its partitions. So nothing here
//! waits for the tasks: records are sent over a bounded channel, the rest is held back, and
//! commands arrive on another channel.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::telemetry::{Health, metrics};

use crate::stream::broker::notices::Notice;
use crate::stream::error::StreamError;
use crate::stream::intake::admission::Intake;
use crate::stream::intake::client_login::ClientLogin;
use crate::stream::intake::commits::{CommitAttempt, Committer};
use crate::stream::intake::consumer_errors::ConsumerErrors;
use crate::stream::intake::group_consumer::{Found, GroupConsumer};
use crate::stream::intake::kafka_events::KafkaEvent;
use crate::stream::intake::librdkafka_statistics::{LagExtent, Statistics};
use crate::stream::intake::position_watch::PositionWatch;
use crate::stream::intake::rebalance::{Loss, Rebalancer};
use crate::stream::offsets::partitions::Partitions;
use crate::stream::record::in_flight_budget::InFlightBudget;
use crate::stream::settings::Settings;
use crate::stream::status::counts::Counts;
use crate::stream::status::fault::Fault;
use crate::stream::status::trouble::Trouble;
use crate::stream::status::vitals::Vitals;

/// Maximum time that a poll waits for a record, and so the delay until commands and permits are
/// noticed.
const POLL: Duration = Duration::from_millis(50);
/// The same while a record is held back.
const POLL_HOLDING: Duration = Duration::from_millis(10);
/// Maximum number of records polled in a row.
const BATCH_MAX: usize = 256;
/// Maximum number of waiting commands; each kind is sent once.
const COMMANDS_MAX: usize = 4;
/// Interval between checks of the worker's health.
const TICK: Duration = Duration::from_secs(1);
/// Time without a record after which a partition that has records is paused and resumed.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// The handle to the polling thread.
pub(crate) struct Polling {
    commands: SyncSender<Command>,
    phase: watch::Receiver<Phase>,
    closed: oneshot::Receiver<Closed>,
}

/// The parts that the polling thread owns or shares with the tasks.
///
/// `intake` is declared before `consumer`: if the thread panics, the worker is notified even if
/// librdkafka blocks while the consumer is dropped.
pub(crate) struct Poller {
    pub(crate) intake: Intake,
    pub(crate) consumer: GroupConsumer,
    pub(crate) committer: Committer,
    pub(crate) rebalancer: Rebalancer,
    pub(crate) errors: ConsumerErrors,
    pub(crate) watch: PositionWatch,
    pub(crate) login: ClientLogin,
    pub(crate) settings: Arc<Settings>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) budget: Arc<InFlightBudget>,
    pub(crate) fault: Arc<Fault>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) health: Health,
}

/// The phase of a worker. It only moves forward, and ends when the consumer is dropped: no code
/// that commits or admits exists after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Records are admitted.
    Consuming,
    /// No record is admitted. Answers are still committed.
    Draining,
}

/// The end of a consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    /// True if every answered record is committed.
    pub(crate) is_committed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Command {
    Drain,
    /// Commits until the deadline, if there is one, then leaves the group.
    Close {
        commit_until: Option<Instant>,
    },
}

/// The loop of the polling thread.
struct PollLoop {
    poller: Poller,
    commands: Receiver<Command>,
    phase: watch::Sender<Phase>,
    commit_at: Instant,
    tick_at: Instant,
}

impl Polling {
    /// Joins the group and starts to poll, on a new thread.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start(poller: Poller) -> Result<Self, StreamError> {
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let (phase, observed) = watch::channel(Phase::Consuming);
        let (finish, closed) = oneshot::channel();
        let now = Instant::now();
        let commit_at = now + poller.settings.commit_interval;
        let poll_loop = PollLoop { poller, commands, phase, commit_at, tick_at: now };
        thread::Builder::new()
            .name("dogiqa-consumer".to_owned())
            .spawn(move || {
                let closed = poll_loop.run();
                if finish.send(closed).is_err() {
                    tracing::debug!("the worker did not wait for the polling thread");
                }
            })
            .map_err(|error| {
                StreamError::Bug(format!("the polling thread did not start: {error}"))
            })?;
        Ok(Self { commands: sender, phase: observed, closed })
    }

    /// Stops admitting records; polls and commits continue.
    pub(crate) fn drain(&self) {
        self.send(Command::Drain);
    }

    /// Returns true if no record is admitted any more.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// Commits the answered records until the deadline, if there is one, and leaves the group.
    pub(crate) fn close(&self, commit_until: Option<Instant>) {
        self.send(Command::Close { commit_until });
    }

    fn send(&self, command: Command) {
        // The channel has room for each command; a thread that has ended needs none.
        if self.commands.try_send(command).is_err() {
            tracing::debug!(?command, "the polling thread has ended");
        }
    }

    /// Waits until the consumer is closed. Returns `None` if the thread ended without closing it.
    ///
    /// Cancel safe.
    pub(crate) async fn closed(&mut self) -> Option<Closed> {
        (&mut self.closed).await.ok()
    }
}

impl PollLoop {
    fn run(mut self) -> Closed {
        self.poller.join();
        let commit_until = loop {
            match self.commands.try_recv() {
                Ok(Command::Drain) => self.drain(),
                Ok(Command::Close { commit_until }) => break commit_until,
                Err(TryRecvError::Disconnected) => break None,
                Err(TryRecvError::Empty) => {}
            }
            self.commit_when_due();
            self.tick_when_due();
            match self.phase() {
                Phase::Consuming => self.consume(),
                Phase::Draining => self.poller.poll_without_admission(POLL),
            }
            self.poller.intake.flush();
        };
        self.poller.close(commit_until)
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn drain(&mut self) {
        let running = self.poller.intake.stop();
        self.phase.send_replace(Phase::Draining);
        self.poller.consumer.pause(&running);
        self.check_health(Instant::now());
    }

    /// Admits records, or waits for budget while the shortage is brief.
    fn consume(&mut self) {
        let poller = &mut self.poller;
        let now = Instant::now();
        poller.intake.offer_held(now);
        poller.intake.pass_ends(now);
        let plan = poller.intake.plan(now);
        poller.consumer.pause(&plan.pause);
        poller.consumer.resume(&plan.resume);
        poller.intake.flush();
        if plan.wait {
            poller.budget.wait(POLL_HOLDING);
        } else {
            poller.gather();
        }
    }

    fn commit_when_due(&mut self) {
        let now = Instant::now();
        let Poller { intake, consumer, committer, settings, .. } = &mut self.poller;
        let is_due = now >= self.commit_at;
        match committer {
            Committer::Offsets(offsets) => {
                if is_due || offsets.completions() >= settings.commit_completions.get() {
                    self.commit_at = now + settings.commit_interval;
                    offsets.commit_moved(consumer, now);
                }
            }
            Committer::Transactions(transactions) => {
                let is_urgent = intake.is_short() || *self.phase.borrow() == Phase::Draining;
                if is_due || should_commit_early(transactions.waiting(), is_urgent, settings) {
                    transactions.commit_ready(consumer.inner());
                    // Restart the interval after the commit, so that slow transactions leave time
                    // to poll.
                    self.commit_at = Instant::now() + settings.commit_interval;
                }
            }
        }
    }

    fn tick_when_due(&mut self) {
        let now = Instant::now();
        if now < self.tick_at {
            return;
        }
        self.tick_at = now + TICK;
        let (in_flight, oldest) = self.poller.partitions.in_flight();
        let age = oldest.map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest));
        metrics::in_flight(in_flight, age);
        let Poller { login, consumer, committer, .. } = &mut self.poller;
        login.renew(consumer, committer);
        self.check_health(now);
    }

    fn check_health(&mut self, now: Instant) {
        let Poller { settings, vitals, health, fault, errors, counts, .. } = &mut self.poller;
        errors.expire(now);
        for line in counts.dead_letter_log.due(now) {
            line.log();
        }
        let complaints = vitals.complaints(now, settings.unready_after);
        health.set(complaints.into_iter().map(|complaint| complaint.not_ready(now)).collect());
        let lost = vitals.without_broker(now);
        if settings.exit_after_broker_loss.is_some_and(|limit| lost >= limit) {
            let lost = Duration::from_secs(lost.as_secs());
            fault.raise(StreamError::BrokersLost(humantime::format_duration(lost)));
        }
        if errors.take_rejoin(now) {
            self.poller.join_again();
        }
    }
}

impl Poller {
    fn join(&self) {
        if let Err(error) = self.consumer.join() {
            let reason = format!("the group cannot be joined: {error}");
            self.fault.raise(StreamError::Fatal(reason));
        }
    }

    /// Replaces a consumer that librdkafka gave up, and joins the group again.
    fn join_again(&mut self) {
        match GroupConsumer::create(&self.settings, Arc::clone(&self.login.login)) {
            Ok(mut consumer) => {
                consumer.set_identity(self.consumer.identity().cloned());
                self.consumer = consumer;
                self.join();
            }
            Err(error) => self.fault.raise(error),
        }
    }

    /// Polls until no record is available, the budget is short, or the batch is full.
    fn gather(&mut self) {
        let mut timeout = if self.intake.is_holding() { POLL_HOLDING } else { POLL };
        for _ in 0..BATCH_MAX {
            let polled = self.consumer.poll(timeout);
            let has_events = !polled.events.is_empty();
            // After a restart at the beginning, what the same poll returned is read again.
            let is_stale =
                self.handle_all(polled.events) || self.is_of_another_topic(&polled.found);
            match polled.found {
                Found::Record(record) if !is_stale => {
                    let now = Instant::now();
                    self.continued(record.partition, record.offset);
                    self.intake.offer(record, now);
                }
                Found::End { partition, position } if !is_stale => {
                    self.continued(partition, position);
                    self.intake.reached_end(partition, position);
                }
                Found::Record(_) | Found::End { .. } => {}
                Found::Nothing => break,
            }
            if has_events || self.intake.is_short() {
                break;
            }
            timeout = Duration::ZERO;
        }
    }

    /// Polls once and drops a record. It is not committed, so the next owner of its partition reads
    /// it.
    fn poll_without_admission(&mut self, timeout: Duration) {
        let polled = self.consumer.poll(timeout);
        self.handle_all(polled.events);
    }

    /// Handles events. Returns true if the partitions were restarted at their beginning.
    fn handle_all(&mut self, events: Vec<KafkaEvent>) -> bool {
        events.into_iter().fold(false, |is_restarted, event| self.handle(event) | is_restarted)
    }

    fn handle(&mut self, event: KafkaEvent) -> bool {
        let Self { intake, consumer, committer, rebalancer, errors, watch, .. } = self;
        match event {
            KafkaEvent::Assigned(partitions) => {
                errors.joined();
                // The previous owner may have noticed a new topic that this worker has not.
                if !consumer.numbers(&partitions).is_empty() {
                    consumer.request_topic_id();
                }
                if watch.may_have_old_positions(Instant::now()) {
                    rebalancer.assign_new_topic(consumer, intake, committer, &partitions);
                } else {
                    rebalancer.assign(consumer, intake, &partitions);
                    watch.verify_later(&consumer.numbers(&partitions));
                }
            }
            KafkaEvent::Revoked(partitions) => {
                rebalancer.revoke(consumer, intake, committer, &partitions);
                let partitions = consumer.numbers(&partitions);
                self.forget_positions(&partitions);
            }
            KafkaEvent::Statistics(statistics) => self.read(&statistics),
            KafkaEvent::Failed { code, reason } => {
                errors.handle(consumer, code, &reason, Instant::now());
            }
            KafkaEvent::Noticed(Notice::TopicId { topic, id }) if topic == consumer.topic() => {
                return self.topic_seen(id);
            }
            KafkaEvent::Noticed(Notice::OffsetReset { topic, partition, offset })
                if topic == consumer.topic() =>
            {
                metrics::offset_missing();
                watch.offset_missing(partition, offset);
            }
            KafkaEvent::Noticed(_) => {}
        }
        false
    }

    /// Drops what was observed about partitions that are revoked or read from their beginning.
    pub(crate) fn forget_positions(&mut self, partitions: &[i32]) {
        self.watch.forget(partitions);
        if !self.watch.is_any_silent() {
            self.vitals.end(Trouble::PartitionSilent);
        }
    }

    /// Records that a partition continued at `offset`, and reports records that were lost before.
    fn continued(&mut self, partition: i32, offset: i64) {
        if self.watch.returned(partition) {
            self.vitals.end(Trouble::PartitionSilent);
        }
        if let Some(gap) = self.watch.continued(partition, offset) {
            gap.report(&self.settings.input_topic, partition, offset);
        }
    }

    /// Reports lag and open transactions, checks that commits arrived, and wakes silent partitions.
    fn read(&mut self, statistics: &Statistics) {
        let now = Instant::now();
        if statistics.is_any_broker_up() {
            self.vitals.broker_seen(now);
        }
        let assigned = self.partitions.assigned();
        let mut silent = Vec::new();
        for extent in statistics.extents(self.consumer.topic()) {
            if !assigned.contains(&extent.partition) {
                continue;
            }
            self.report(&extent, now);
            if let Committer::Offsets(offsets) = &self.committer {
                offsets.audit(&extent, now);
            }
            if extent.is_behind && self.intake.is_silent(extent.partition, SILENCE_MAX, now) {
                silent.push(extent.partition);
            }
        }
        self.wake(&silent, now);
    }

    fn report(&mut self, extent: &LagExtent, now: Instant) {
        let LagExtent { partition, end, high, committed, start, .. } = *extent;
        let topic = self.consumer.topic();
        let position = self.partitions.committable(partition);
        let position = position.or(committed).unwrap_or(start);
        metrics::lag(topic, partition, u64::try_from(end - position).unwrap_or(0));
        metrics::unstable_records(topic, partition, u64::try_from(high - end).unwrap_or(0));
        let age = self.watch.transaction_age(partition, end, high, now);
        metrics::open_transaction(topic, partition, age);
        if self.watch.should_log_transaction(partition, now) {
            tracing::warn!(
                topic,
                partition,
                last_stable_offset = end,
                age_seconds = age.as_secs(),
                "an open transaction blocks the last stable offset; later records cannot be read \
                 until it commits or aborts"
            );
        }
    }

    /// Pauses and resumes partitions, because a lost wake-up inside librdkafka would silence them
    /// indefinitely.
    fn wake(&mut self, silent: &[i32], now: Instant) {
        if silent.is_empty() {
            return;
        }
        tracing::warn!(partitions = ?silent, "partitions return no records; fetching them again");
        self.consumer.pause(silent);
        self.consumer.resume(silent);
        for number in silent {
            self.intake.woken(*number, now);
            if self.watch.fetched_again(*number) {
                let text = format!("{}: partition {number}", Trouble::PartitionSilent.text());
                self.vitals.begin_with(Trouble::PartitionSilent, text, now);
            }
        }
    }

    /// Commits until the deadline, if there is one, and leaves the group.
    fn close(mut self, commit_until: Option<Instant>) -> Closed {
        let is_committed = commit_until.is_some_and(|deadline| self.commit_last(deadline));
        self.health.end();
        for line in self.counts.dead_letter_log.rest(Instant::now()) {
            line.log();
        }
        let assigned = self.partitions.assigned();
        if !assigned.is_empty() {
            self.rebalancer.release(&self.consumer, &assigned, Loss::of(&self.consumer));
        }
        drop(self.consumer);
        Closed { is_committed }
    }

    /// Commits every answered record; returns true if all are committed.
    fn commit_last(&mut self, deadline: Instant) -> bool {
        loop {
            let attempt = match &self.committer {
                Committer::Offsets(offsets) => {
                    offsets.try_commit(&self.consumer, &self.partitions.assigned())
                }
                // Every answer was committed with its position, or not at all.
                Committer::Transactions(transactions) => return transactions.is_resolved(),
            };
            if attempt != CommitAttempt::Retry || Instant::now() >= deadline {
                return attempt == CommitAttempt::Done;
            }
            // The commit waits for a rebalance, which continues only while this thread polls.
            self.poll_without_admission(POLL);
        }
    }
}

/// Returns true if the answers that wait for their transaction hold up the records after them.
fn should_commit_early(waiting: usize, is_urgent: bool, settings: &Settings) -> bool {
    // Half of the budget, so that the other half continues during the commit.
    let half = settings.in_flight_max.get().div_ceil(2);
    waiting >= settings.commit_completions.get().min(half) || (waiting > 0 && is_urgent)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn half_of_the_budget_or_an_urgent_answer_commits_early() {
        let settings = Settings {
            in_flight_max: NonZeroUsize::new(7).unwrap(),
            commit_completions: NonZeroUsize::new(1000).unwrap(),
            ..Settings::default()
        };
        for (waiting, is_urgent, expected) in
            [(0, true, false), (1, true, true), (3, false, false), (4, false, true)]
        {
            assert_eq!(should_commit_early(waiting, is_urgent, &settings), expected, "{waiting}");
        }
        let few = Settings { commit_completions: NonZeroUsize::MIN, ..settings };
        assert!(should_commit_early(1, false, &few));
    }
}
