//! Commits offsets, and checks that the commits arrived.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::telemetry::{LineLimit, metrics};

use crate::stream::broker::kafka_error::{
    code_of, commit_failure_label, is_duplicate_instance, is_forbidden,
};
use crate::stream::broker::sasl_login::Credentials;
use crate::stream::broker::topic_identity::TopicIdentity;
use crate::stream::error::StreamError;
use crate::stream::intake::group_consumer::GroupConsumer;
use crate::stream::intake::librdkafka_statistics::LagExtent;
use crate::stream::offsets::partitions::Partitions;
use crate::stream::offsets::tracker::CommitAudit;
use crate::stream::output::publisher::Publisher;
use crate::stream::output::transaction_committer::TransactionCommitter;
use crate::stream::status::fault::Fault;
use crate::stream::status::vitals::Vitals;

/// Time after which librdkafka's statistics show a successful commit.
const COMMIT_VISIBLE_AFTER: Duration = Duration::from_secs(2);

/// A commit is repeated until it succeeds; one line a minute suffices.
static WARNINGS: LineLimit = LineLimit::new(Duration::from_mins(1));

/// The commit mode, by delivery guarantee.
pub(crate) enum Committer {
    /// At least once: after the answers are acknowledged.
    Offsets(OffsetCommitter),
    /// Exactly once: in one transaction with the answers.
    Transactions(TransactionCommitter),
}

impl Committer {
    /// Commits positions of this topic from now on. Other offsets are committed by the consumer.
    pub(crate) fn set_identity(&mut self, identity: &TopicIdentity) {
        if let Self::Transactions(transactions) = self {
            transactions.set_identity(identity.clone());
        }
    }
}

/// Commits the positions of acknowledged answers.
pub(crate) struct OffsetCommitter {
    pub(crate) group: String,
    /// The producer of the answers. Only its login is changed here.
    pub(crate) publisher: Publisher,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) fault: Arc<Fault>,
    pub(crate) vitals: Arc<Vitals>,
}

/// The result of one attempt to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitAttempt {
    /// Every position is committed.
    Done,
    /// The same commit may succeed later.
    Retry,
    /// This member cannot commit any more.
    Denied,
}

impl Committer {
    /// Lets the producer of the answers reconnect with other credentials.
    pub(crate) fn log_in(&mut self, credentials: &Credentials) {
        match self {
            Self::Offsets(offsets) => offsets.publisher.log_in(credentials),
            Self::Transactions(transactions) => transactions.log_in(credentials),
        }
    }
}

impl OffsetCommitter {
    /// Returns the number of answers since the last commit.
    pub(crate) fn completions(&self) -> usize {
        self.partitions.completions()
    }

    /// Commits the positions that moved, without waiting for the result.
    pub(crate) fn commit_moved(&self, consumer: &GroupConsumer, now: Instant) {
        // The brokers check the member and not the partitions that it owns. Without an assignment,
        // a commit could rewind the new owner.
        if consumer.is_assignment_lost() {
            return;
        }
        let positions = self.partitions.take_committable(now);
        if positions.is_empty() {
            return;
        }
        if let Err(error) = consumer.commit(&positions, CommitMode::Async) {
            for position in &positions {
                self.partitions.commit_failed(position.partition);
            }
            self.failed(&error);
        }
    }

    /// Commits the positions of `partitions` and waits for the result. Blocks.
    pub(crate) fn try_commit(&self, consumer: &GroupConsumer, partitions: &[i32]) -> CommitAttempt {
        let positions = self.partitions.committable_offsets(partitions);
        if positions.is_empty() {
            return CommitAttempt::Done;
        }
        if consumer.is_assignment_lost() {
            return CommitAttempt::Denied;
        }
        let Err(error) = consumer.commit(&positions, CommitMode::Sync) else {
            metrics::offsets_committed(positions.len());
            self.vitals.committed(Instant::now());
            return CommitAttempt::Done;
        };
        self.failed(&error);
        if self.fault.is_raised() || code_of(&error) == RDKafkaErrorCode::UnknownMemberId {
            return CommitAttempt::Denied;
        }
        CommitAttempt::Retry
    }

    /// Compares the positions sent for commit with those that the brokers hold.
    pub(crate) fn audit(&self, extent: &LagExtent, now: Instant) {
        let LagExtent { partition, committed, .. } = *extent;
        match self.partitions.audit(partition, committed, now, COMMIT_VISIBLE_AFTER) {
            CommitAudit::Fine => {}
            CommitAudit::Confirmed => {
                metrics::offsets_committed(1);
                self.vitals.committed(now);
            }
            CommitAudit::Overdue => {
                metrics::commit_failed("unconfirmed");
                self.vitals.commit_failed(now);
                if let Some(repeated) = WARNINGS.admit("unconfirmed", now) {
                    tracing::warn!(partition, repeated, "a commit is not confirmed; repeating it");
                }
            }
        }
    }

    fn failed(&self, error: &KafkaError) {
        let code = code_of(error);
        metrics::commit_failed(commit_failure_label(code));
        if is_duplicate_instance(code) {
            self.fault.raise(StreamError::DuplicateInstance { group: self.group.clone() });
        } else if is_forbidden(code) {
            let action = format!("commit offsets of the group {}", self.group);
            self.fault.raise(StreamError::Forbidden { action, code });
        } else {
            let now = Instant::now();
            self.vitals.commit_failed(now);
            if let Some(repeated) = WARNINGS.admit(commit_failure_label(code), now) {
                tracing::warn!(%code, repeated, "a commit failed; repeating it");
            }
        }
    }
}
