//! Changes of the assignment. A revoked partition is finished and committed first, within
//! `revoke_timeout`.
//!
//! During a revocation the polling thread waits here for the answers to admitted records. So
//! answers must reach `Partitions` without it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::topic_partition_list::TopicPartitionList;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics;

use crate::stream::broker::topic_identity::TopicIdentity;
use crate::stream::error::StreamError;
use crate::stream::intake::admission::Intake;
use crate::stream::intake::commits::{CommitAttempt, Committer, OffsetCommitter};
use crate::stream::intake::group_consumer::GroupConsumer;
use crate::stream::offsets::partitions::Partitions;
use crate::stream::output::outbox::Outbox;
use crate::stream::output::transaction_committer::TransactionCommitter;
use crate::stream::status::fault::Fault;
use crate::stream::status::trouble::Trouble;
use crate::stream::status::vitals::Vitals;

/// Minimum time for the commit of revoked partitions, however long their answers took.
const COMMIT_TIME_MIN: Duration = Duration::from_secs(1);
/// Offset before the first record of a partition.
const BEFORE_BEGINNING: i64 = -1;
/// Time limit for the references of a deleted topic. Less than the time between two polls after
/// which the group would give the partitions to another worker.
const FINISH_OLD_MAX: Duration = Duration::from_mins(1);
/// Time limit for moving the positions of a topic that was created again.
const RESTART_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait before a failed commit is repeated.
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// Wait before a full queue to the tasks is tried again, and between two transactions.
const FLUSH_RETRY: Duration = Duration::from_millis(5);

/// Applies changes of the assignment to the state of the worker.
pub(crate) struct Rebalancer {
    pub(crate) revoke_timeout: Duration,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) fault: Arc<Fault>,
    pub(crate) vitals: Arc<Vitals>,
    /// Parent of the tokens that cancel the tasks of an assignment.
    pub(crate) tasks: CancellationToken,
}

/// The two kinds of revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The group waits until the worker gives up the partition.
    Revoked,
    /// The group has already reassigned the partition: none of its offsets may be committed.
    Lost,
}

impl Loss {
    pub(crate) fn of(consumer: &GroupConsumer) -> Self {
        if consumer.is_assignment_lost() { Self::Lost } else { Self::Revoked }
    }
}

impl Rebalancer {
    /// Accepts assigned partitions and opens their windows.
    pub(crate) fn assign(
        &self,
        consumer: &GroupConsumer,
        intake: &mut Intake,
        assigned: &TopicPartitionList,
    ) {
        consumer.assign(assigned);
        self.open(consumer, intake, assigned);
    }

    /// Opens the windows of assigned partitions.
    fn open(&self, consumer: &GroupConsumer, intake: &mut Intake, assigned: &TopicPartitionList) {
        let (partitions, now) = (consumer.numbers(assigned), Instant::now());
        for partition in &partitions {
            self.partitions.assign(*partition, &self.tasks);
            intake.assigned(*partition, now);
        }
        if !partitions.is_empty() {
            self.vitals.end(Trouble::InputMissing);
        }
        metrics::rebalanced("assigned", self.partitions.assigned().len());
        tracing::info!(?partitions, "partitions were given to this worker");
    }

    /// Accepts partitions of a topic that was created again a moment ago. Reads those from their
    /// beginning whose committed position may be one of the deleted topic, because a worker has
    /// committed it that had not noticed the new one.
    pub(crate) fn assign_new_topic(
        &self,
        consumer: &GroupConsumer,
        intake: &mut Intake,
        committer: &Committer,
        assigned: &TopicPartitionList,
    ) {
        let partitions = consumer.numbers(assigned);
        let old = consumer.identity().map_or_else(Vec::new, |identity| {
            consumer.with_old_positions(&partitions, identity, RESTART_TIMEOUT)
        });
        consumer.assign_from_beginning(assigned, &old);
        self.open(consumer, intake, assigned);
        let now = Instant::now();
        for partition in &old {
            self.commit_beginning(*partition, committer, now);
        }
    }

    /// Finishes and commits revoked partitions, unless they are already lost, and gives them up.
    /// Blocks, for little more than `revoke_timeout`.
    pub(crate) fn revoke(
        &self,
        consumer: &GroupConsumer,
        intake: &mut Intake,
        committer: &mut Committer,
        revoked: &TopicPartitionList,
    ) {
        let partitions = consumer.numbers(revoked);
        let loss = Loss::of(consumer);
        let paused = intake.forget(&partitions).paused;
        if loss == Loss::Revoked {
            let deadline = Instant::now() + self.revoke_timeout;
            flush_until(deadline, intake);
            self.finish(deadline, consumer, committer, &partitions);
            // A deleted topic may exist again by now, and its new records must not be skipped.
            let is_deleted = self.vitals.since(Trouble::InputMissing).is_some();
            if let Committer::Offsets(offsets) = committer
                && !is_deleted
            {
                let deadline = deadline.max(Instant::now() + COMMIT_TIME_MIN);
                commit_until(deadline, offsets, consumer, &partitions);
            }
        }
        self.release(consumer, &partitions, loss);
        // A pause survives in librdkafka: the partition would return paused.
        consumer.resume(&paused);
        consumer.unassign(revoked);
    }

    /// Reads the assigned partitions from their beginning, because the topic was deleted and
    /// created again as `new`: librdkafka would continue at the positions of the old topic and skip
    /// new records. Returns true if there are such partitions. Blocks, for little more than
    /// `FINISH_OLD_MAX`.
    pub(crate) fn restart(
        &self,
        consumer: &mut GroupConsumer,
        intake: &mut Intake,
        committer: &mut Committer,
        new: &TopicIdentity,
    ) -> bool {
        let assigned = self.partitions.assigned();
        self.vitals.end(Trouble::InputMissing);
        let mut partitions = Vec::new();
        if !assigned.is_empty() {
            // Another worker may have given up partitions of the new topic already.
            partitions = consumer.with_old_positions(&assigned, new, RESTART_TIMEOUT);
        }
        if !partitions.is_empty() {
            report_recreated(consumer, &partitions);
            // The references of the old topic exist nowhere else. Their positions are committed as
            // those of the old topic, so that another worker does not continue there.
            let deadline = Instant::now() + FINISH_OLD_MAX;
            flush_until(deadline, intake);
            self.finish(deadline, consumer, committer, &partitions);
        }
        committer.set_identity(new);
        consumer.set_identity(Some(new.clone()));
        if partitions.is_empty() {
            return false;
        }
        let unanswered = self.read_from_beginning(consumer, intake, committer, &partitions);
        if unanswered > 0 {
            metrics::records_expired(unanswered as u64);
            tracing::error!(
                topic = consumer.topic(),
                references = unanswered,
                "references of the deleted topic have no answer; they were received but not \
                 finished in time, so publish them again"
            );
        }
        true
    }

    /// Reads a partition from its beginning, because its committed position is one of another
    /// topic. Nothing was admitted since the partition was assigned.
    pub(crate) fn restart_foreign(
        &self,
        consumer: &GroupConsumer,
        intake: &mut Intake,
        committer: &Committer,
        partition: i32,
    ) {
        report_recreated(consumer, &[partition]);
        self.read_from_beginning(consumer, intake, committer, &[partition]);
    }

    /// Moves assigned partitions to their beginning and drops what is in flight. Returns the number
    /// of dropped records.
    fn read_from_beginning(
        &self,
        consumer: &GroupConsumer,
        intake: &mut Intake,
        committer: &Committer,
        partitions: &[i32],
    ) -> usize {
        let forgotten = intake.forget(partitions);
        let mut unanswered = forgotten.records;
        let now = Instant::now();
        for partition in partitions {
            self.outbox.forget(*partition);
            unanswered += self.partitions.revoke(*partition);
            self.partitions.assign(*partition, &self.tasks);
            intake.assigned(*partition, now);
            self.commit_beginning(*partition, committer, now);
        }
        if let Err(reason) = consumer.seek_to_beginning(partitions, RESTART_TIMEOUT) {
            let topic = consumer.topic().to_owned();
            self.fault.raise(StreamError::TopicRecreated { topic, reason });
        }
        consumer.resume(&forgotten.paused);
        unanswered
    }

    /// Makes the beginning of a partition its committable position, because a position of the old
    /// topic may have been committed for the new one: as if a record before it were answered.
    fn commit_beginning(&self, partition: i32, committer: &Committer, now: Instant) {
        if let Ok((ticket, _)) = self.partitions.admit(partition, BEFORE_BEGINNING, now) {
            if matches!(committer, Committer::Transactions(_)) {
                self.outbox.skip(ticket.slot(), BEFORE_BEGINNING);
            }
            self.partitions.complete(ticket);
        }
    }

    /// Waits for the answers to the admitted records of partitions, at most until the deadline.
    /// Transactions are committed with them.
    fn finish(
        &self,
        deadline: Instant,
        consumer: &GroupConsumer,
        committer: &mut Committer,
        partitions: &[i32],
    ) {
        match committer {
            Committer::Offsets(_) => {
                self.partitions.wait_answered(partitions, deadline);
            }
            Committer::Transactions(transactions) => {
                self.finish_transactions(deadline, transactions, consumer, partitions);
            }
        }
    }

    /// Ends the assignment of partitions: their tasks are cancelled and their answers dropped.
    pub(crate) fn release(&self, consumer: &GroupConsumer, partitions: &[i32], loss: Loss) {
        let mut unfinished = 0;
        for partition in partitions {
            self.outbox.forget(*partition);
            unfinished += self.partitions.revoke(*partition);
            // The new owner reports the lag from now on.
            metrics::lag(consumer.topic(), *partition, 0);
            metrics::unstable_records(consumer.topic(), *partition, 0);
            metrics::open_transaction(consumer.topic(), *partition, Duration::ZERO);
        }
        let kind = match loss {
            Loss::Revoked => "revoked",
            Loss::Lost => "lost",
        };
        metrics::rebalanced(kind, self.partitions.assigned().len());
        tracing::info!(?partitions, unfinished, kind, "partitions were taken away");
    }

    /// Commits answers until none is missing. They count only when their transaction is committed,
    /// which only this thread can do.
    fn finish_transactions(
        &self,
        deadline: Instant,
        transactions: &mut TransactionCommitter,
        consumer: &GroupConsumer,
        partitions: &[i32],
    ) {
        while Instant::now() < deadline && !self.fault.is_raised() {
            transactions.commit_ready(consumer.inner());
            let until = deadline.min(Instant::now() + FLUSH_RETRY);
            if self.partitions.wait_answered(partitions, until) == 0 {
                return;
            }
        }
    }
}

/// Reports partitions that are read from their beginning.
fn report_recreated(consumer: &GroupConsumer, partitions: &[i32]) {
    metrics::input_recreated();
    tracing::error!(
        topic = consumer.topic(),
        ?partitions,
        "the input topic was deleted and created again; reading it from its beginning"
    );
}

/// Sends the admitted records to their tasks, so that their answers can be awaited.
fn flush_until(deadline: Instant, intake: &mut Intake) {
    while !intake.flush() && Instant::now() < deadline {
        thread::sleep(FLUSH_RETRY);
    }
}

/// Repeats a commit that fails while the group is rebalancing.
fn commit_until(
    deadline: Instant,
    offsets: &OffsetCommitter,
    consumer: &GroupConsumer,
    partitions: &[i32],
) {
    while offsets.try_commit(consumer, partitions) == CommitAttempt::Retry
        && Instant::now() < deadline
    {
        thread::sleep(COMMIT_RETRY);
    }
}
