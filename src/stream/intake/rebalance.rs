//! What librdkafka calls back: partitions given and taken, errors, statistics. And commits, which
//! rebalances need too.
//!
//! All of it runs on the thread that polls or drops the consumer. During a rebalance that thread
//! waits here for what is in flight, so answers must reach the windows without it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Statistics as LibrdkafkaStatistics};

use crate::telemetry::metrics;

use crate::stream::broker::kafka_error::{
    code_of, commit_failure_label, is_duplicate_instance, is_forbidden, log_client_error,
};
use crate::stream::error::StreamError;
use crate::stream::intake::backpressure::Intake;
use crate::stream::intake::lag::{LagExtent, Statistics};
use crate::stream::offsets::tracker::{Audit, Position};
use crate::stream::output::transaction_committer::Transactions;
use crate::stream::shared::Shared;

/// Without a record for so long, a partition that has some is paused and resumed.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Time after which a commit shows in the statistics, if it succeeded.
const COMMIT_ARRIVES: Duration = Duration::from_secs(2);
/// What a rebalance leaves for its commit, however long it waited for answers.
const COMMIT_AT_LEAST: Duration = Duration::from_secs(1);
/// Wait before a commit is tried again while the group is rearranged.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);
/// How often a full queue to the tasks is tried again while a rebalance waits.
const FLUSH_AGAIN: Duration = Duration::from_millis(5);

/// The consumer's context.
pub(crate) struct RebalanceContext {
    pub(crate) shared: Arc<Shared>,
    /// What commits answers with their positions, where they are not written one by one.
    pub(crate) transactions: Option<Transactions>,
    intake: Mutex<Intake>,
    /// Partitions that have records and bring none.
    silent: Mutex<Vec<i32>>,
    /// Set when nothing may be committed any more.
    abandoned: AtomicBool,
}

impl RebalanceContext {
    pub(crate) fn new(
        shared: Arc<Shared>,
        intake: Intake,
        transactions: Option<Transactions>,
    ) -> Self {
        Self {
            shared,
            transactions,
            intake: Mutex::new(intake),
            silent: Mutex::default(),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Never held over a call of the consumer: the callbacks lock it too, on the same thread.
    pub(crate) fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is committed from here on.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Partitions that fell silent since the last call.
    pub(crate) fn take_silent(&self) -> Vec<i32> {
        std::mem::take(&mut *self.silent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn topic(&self) -> &str {
        &self.shared.settings.input_topic
    }

    fn numbers(&self, list: &TopicPartitionList) -> Vec<i32> {
        let ours = list.elements_for_topic(self.topic());
        ours.iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect()
    }

    /// Commits positions without waiting for the answer. It never comes: librdkafka tells it to a
    /// callback that rdkafka does not set, so statistics have to show whether the commit arrived.
    pub(crate) fn commit(&self, consumer: &BaseConsumer<Self>, positions: &[Position]) {
        if positions.is_empty() || self.abandoned.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = consumer.commit(&self.list(positions), CommitMode::Async) {
            let partitions = positions.iter().map(|position| position.partition);
            partitions.for_each(|partition| self.shared.partitions.request_failed(partition));
            self.commit_failed(&error);
        }
    }

    /// Commits positions and waits for the answer; true when they are committed. What fails while
    /// the group is rearranged is tried again after `pause`, until the deadline. Blocks.
    pub(crate) fn commit_now(
        &self,
        consumer: &BaseConsumer<Self>,
        positions: impl Fn() -> Vec<Position>,
        deadline: Instant,
        pause: impl Fn(),
    ) -> bool {
        loop {
            let positions = positions();
            if positions.is_empty() {
                return true;
            }
            if self.abandoned.load(Ordering::Acquire) || consumer.assignment_lost() {
                return false;
            }
            let result = consumer.commit(&self.list(&positions), CommitMode::Sync);
            let Err(error) = result else {
                metrics::offsets_committed(positions.len());
                self.shared.vitals().committed(Instant::now());
                return true;
            };
            self.commit_failed(&error);
            let is_over = Instant::now() >= deadline || self.shared.fault.is_raised();
            if is_over || error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownMemberId) {
                return false;
            }
            pause();
        }
    }

    pub(crate) fn list(&self, positions: &[Position]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for Position { partition, offset } in positions {
            let added =
                list.add_partition_offset(self.topic(), *partition, Offset::Offset(*offset));
            added.expect("a position is one past an offset of the log");
        }
        list
    }

    fn commit_failed(&self, error: &KafkaError) {
        let code = code_of(error);
        metrics::commit_failed(commit_failure_label(code));
        let settings = &self.shared.settings;
        match code {
            code if is_duplicate_instance(code) => {
                let group = settings.group_id.clone();
                self.shared.fault.raise(StreamError::DuplicateInstance { group });
            }
            code if is_forbidden(code) => {
                let action = format!("commit offsets of the group {}", settings.group_id);
                self.shared.fault.raise(StreamError::Forbidden { action, code });
            }
            code => {
                self.shared.vitals().commit_failed(Instant::now());
                tracing::warn!(%code, "a commit failed");
            }
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) {
        let shared = &self.shared;
        let is_lost = consumer.assignment_lost();
        let paused = self.intake().forget(partitions);
        if !is_lost && !self.abandoned.load(Ordering::Acquire) {
            let deadline = Instant::now() + shared.settings.revoke_timeout;
            self.wait_for_answers(consumer, partitions, deadline);
            if self.transactions.is_none() {
                let deadline = deadline.max(Instant::now() + COMMIT_AT_LEAST);
                let positions = || shared.partitions.positions(partitions);
                self.commit_now(consumer, positions, deadline, || thread::sleep(COMMIT_AGAIN));
            }
        }
        for number in partitions {
            shared.outbox.forget(*number);
        }
        // A pause survives in librdkafka, and the partition would come back silent.
        resume(consumer, self.topic(), &paused);
        for number in partitions {
            // Its new owner tells how far behind it is.
            metrics::lag(self.topic(), *number, 0);
        }
        let unfinished: usize =
            partitions.iter().map(|number| shared.partitions.revoke(*number)).sum();
        let kind = if is_lost { "lost" } else { "revoked" };
        metrics::rebalanced(kind, shared.partitions.assigned().len());
        tracing::info!(?partitions, unfinished, kind, "partitions were taken away");
    }

    fn wait_for_answers(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[i32],
        deadline: Instant,
    ) {
        // What was taken in has to reach the tasks before its answer can be waited for.
        while !self.intake().flush() && Instant::now() < deadline {
            thread::sleep(FLUSH_AGAIN);
        }
        let Some(transactions) = &self.transactions else {
            self.shared.partitions.wait_idle(partitions, deadline);
            return;
        };
        // Answers count when their transaction is committed, which only this thread can do.
        while Instant::now() < deadline && !self.shared.fault.is_raised() {
            transactions.cut(consumer);
            let until = deadline.min(Instant::now() + FLUSH_AGAIN);
            if self.shared.partitions.wait_idle(partitions, until) == 0 {
                return;
            }
        }
    }

    fn assign(&self, partitions: &[i32]) {
        let now = Instant::now();
        for number in partitions {
            self.shared.partitions.assign(*number, &self.shared.tasks);
            self.intake().assigned(*number, now);
        }
        if !partitions.is_empty() {
            self.shared.vitals().input_missing(false);
        }
        metrics::rebalanced("assigned", self.shared.partitions.assigned().len());
        tracing::info!(?partitions, "partitions were given to this worker");
    }

    fn audit(&self, extent: &LagExtent, now: Instant) {
        let partitions = &self.shared.partitions;
        match partitions.audit(extent.partition, extent.committed, now, COMMIT_ARRIVES) {
            Audit::Fine => {}
            Audit::Confirmed => {
                metrics::offsets_committed(1);
                self.shared.vitals().committed(now);
            }
            Audit::Overdue => {
                metrics::commit_failed("unconfirmed");
                self.shared.vitals().commit_failed(now);
                tracing::warn!(
                    partition = extent.partition,
                    "a commit did not arrive, it is repeated"
                );
            }
        }
    }

    fn read(&self, statistics: &Statistics) {
        let now = Instant::now();
        if statistics.is_any_broker_up() {
            self.shared.vitals().broker_seen(now);
        }
        let assigned = self.shared.partitions.assigned();
        for extent in statistics.extents(self.topic()) {
            let number = extent.partition;
            if !assigned.contains(&number) {
                continue;
            }
            let group = extent.committed.unwrap_or(extent.start);
            let position = self.shared.partitions.position(number).unwrap_or(group);
            let lag = u64::try_from(extent.end - position).unwrap_or(0);
            metrics::lag(self.topic(), number, lag);
            self.audit(&extent, now);
            if extent.is_behind && self.intake().is_silent(number, SILENCE_MAX, now) {
                self.silent.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            }
        }
    }
}

impl ClientContext for RebalanceContext {
    fn stats(&self, _: LibrdkafkaStatistics) {}

    fn stats_raw(&self, statistics: &[u8]) {
        match Statistics::parse(statistics) {
            Ok(statistics) => self.read(&statistics),
            Err(error) => tracing::warn!(%error, "librdkafka's statistics cannot be read"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&error, reason);
    }
}

impl ConsumerContext for RebalanceContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => self.revoke(consumer, &self.numbers(list)),
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "a rebalance failed"),
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.assign(&self.numbers(list));
        }
    }
}

/// Pauses partitions; librdkafka refuses one that is not assigned any more, and says so per element.
pub(crate) fn pause(consumer: &BaseConsumer<RebalanceContext>, topic: &str, partitions: &[i32]) {
    apply(topic, partitions, "pause", |list| consumer.pause(list));
}

/// Resumes partitions; as [`pause`].
pub(crate) fn resume(consumer: &BaseConsumer<RebalanceContext>, topic: &str, partitions: &[i32]) {
    apply(topic, partitions, "resume", |list| consumer.resume(list));
}

fn apply(
    topic: &str,
    partitions: &[i32],
    action: &'static str,
    call: impl Fn(&TopicPartitionList) -> KafkaResult<()>,
) {
    if partitions.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for number in partitions {
        list.add_partition(topic, *number);
    }
    if let Err(error) = call(&list) {
        tracing::warn!(%error, action, "librdkafka refused");
    }
    for element in list.elements() {
        if let Err(error) = element.error() {
            tracing::warn!(%error, action, partition = element.partition(), "librdkafka refused");
        }
    }
}
