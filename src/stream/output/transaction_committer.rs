//! Exactly-once delivery: answers and the positions after them are committed in one transaction.
//!
//! Everything here runs on the polling thread. It has the group's generation, with which the
//! brokers fence a worker that lost its membership, and it waits during a rebalance. Aborted
//! answers stay in memory and are written again.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use crate::telemetry::{LineLimit, metrics};

use crate::stream::broker::partition_list::of_positions;
use crate::stream::broker::sasl_login::{Credentials, SaslLogin};
use crate::stream::broker::topic_identity::TopicIdentity;
use crate::stream::error::StreamError;
use crate::stream::output::outbox::{Outbox, PendingAnswer};
use crate::stream::output::publisher::DeliveryContext;
use crate::stream::output::transactional_producer::{
    Positions, STEP_TIMEOUT, TransactionFailure, TransactionalProducer,
};
use crate::stream::settings::Settings;
use crate::stream::status::fault::Fault;
use crate::stream::status::vitals::Vitals;

/// Time limit for opening a replacement producer. A failed attempt is repeated at the next commit.
const REOPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of answers at which a transaction is full; all are in the producer's queue at once. The
/// answers of one record are never split.
const ANSWERS_MAX: usize = 10_000;
/// Time limit for reading the committed offsets of the group.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of producers replaced between two successful commits.
const REPLACEMENTS_MAX: u32 = 5;

/// Commits the answers of one worker.
pub(crate) struct TransactionCommitter {
    settings: Arc<Settings>,
    outbox: Arc<Outbox>,
    fault: Arc<Fault>,
    vitals: Arc<Vitals>,
    login: Arc<SaslLogin>,
    /// `None` after a producer was replaced, until the brokers accept its successor.
    producer: Option<TransactionalProducer>,
    /// Answers of a transaction whose outcome is unknown. Must be resolved from the committed
    /// offsets before anything else is written.
    unresolved: Vec<PendingAnswer>,
    /// Producers that were replaced since the last commit.
    replacements: u32,
    /// Identity of the input topic, if it is known.
    identity: Option<TopicIdentity>,
}

/// An outage of the brokers lasts for many attempts; one line a minute suffices.
static WARNINGS: LineLimit = LineLimit::new(Duration::from_mins(1));

/// The fate of the producer after an attempt to commit.
enum ProducerFate {
    Keep,
    Replace { reason: String, answers: usize },
}

impl TransactionCommitter {
    /// Opens the producer and aborts the transaction that a predecessor with the same transactional
    /// id left open. Blocks.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the configuration, or the brokers reject the transactional id or
    /// do not answer.
    pub(crate) fn open(
        settings: Arc<Settings>,
        outbox: Arc<Outbox>,
        fault: Arc<Fault>,
        vitals: Arc<Vitals>,
        login: Arc<SaslLogin>,
    ) -> Result<Self, StreamError> {
        let producer = open_producer(&settings, &login, STEP_TIMEOUT).map_err(|failure| {
            if let TransactionFailure::Permanent(error) = failure {
                return error;
            }
            let id = settings.transactional_id();
            StreamError::Fatal(format!(
                "no broker initialised the transactional id {id} within {STEP_TIMEOUT:?}"
            ))
        })?;
        Ok(Self {
            settings,
            outbox,
            fault,
            vitals,
            login,
            producer: Some(producer),
            unresolved: Vec::new(),
            replacements: 0,
            identity: None,
        })
    }

    /// Commits positions of this topic from now on.
    pub(crate) fn set_identity(&mut self, identity: TopicIdentity) {
        self.identity = Some(identity);
    }

    /// Reconnects with other credentials. A producer that is opened later reads them itself.
    pub(crate) fn log_in(&mut self, credentials: &Credentials) {
        if let Some(producer) = &mut self.producer {
            producer.log_in(credentials);
        }
    }

    /// Returns true if the outcome of every transaction is known.
    pub(crate) fn is_resolved(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Returns the number of answers that wait for a transaction.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Commits the answers that are next in line, if there are any. Blocks.
    pub(crate) fn commit_ready<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>) {
        if self.fault.is_raised() {
            return;
        }
        // Reopen even if no answer waits: until then, the transaction that the previous producer
        // left open holds back readers of committed records.
        let Some(mut producer) = self.producer.take().or_else(|| self.reopen()) else { return };
        match self.attempt(&mut producer, consumer) {
            ProducerFate::Keep => self.producer = Some(producer),
            ProducerFate::Replace { reason, answers } => {
                tracing::warn!(reason, answers, "the transactional producer is replaced");
                producer.abandon();
                self.replacements += 1;
                if self.replacements > REPLACEMENTS_MAX {
                    self.fault.raise(StreamError::Fatal(reason));
                }
            }
        }
    }

    fn attempt<C: ConsumerContext>(
        &mut self,
        producer: &mut TransactionalProducer,
        consumer: &BaseConsumer<C>,
    ) -> ProducerFate {
        if !self.resolve(consumer) {
            return ProducerFate::Keep;
        }
        let answers = self.outbox.take_ready(ANSWERS_MAX);
        if answers.is_empty() {
            return ProducerFate::Keep;
        }
        match self.commit(producer, consumer, &answers) {
            Ok(()) => {
                self.replacements = 0;
                self.confirm(answers);
                ProducerFate::Keep
            }
            Err(failure) => {
                metrics::transaction_aborted();
                self.recover(failure, answers)
            }
        }
    }

    /// Resolves a transaction with unknown outcome from the committed offsets of the group. Returns
    /// false if they cannot be read. The offsets are final: opening the replacement producer ended
    /// the transaction.
    fn resolve<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>) -> bool {
        if self.unresolved.is_empty() {
            return true;
        }
        let topic = &self.settings.input_topic;
        let requested = Outbox::positions(&self.unresolved);
        let partitions = of_positions(topic, None, &requested);
        let committed = match consumer.committed_offsets(partitions, COMMITTED_TIMEOUT) {
            Ok(committed) => committed,
            Err(error) => {
                if let Some(repeated) = WARNINGS.admit("resolve", Instant::now()) {
                    tracing::warn!(
                        %error,
                        repeated,
                        "the committed offsets of the group are not known yet"
                    );
                }
                self.vitals.commit_failed(Instant::now());
                return false;
            }
        };
        // A later position than the transaction's is of a topic that was deleted and created again.
        let is_committed = |answer: &PendingAnswer| {
            let partition = answer.slot.partition;
            let last = requested.iter().find(|position| position.partition == partition);
            let found = committed.find_partition(topic, partition).map(|found| found.offset());
            matches!((found, last), (Some(Offset::Offset(next)), Some(last))
                if next > answer.offset && next <= last.offset)
        };
        let (done, aborted): (Vec<_>, Vec<_>) =
            mem::take(&mut self.unresolved).into_iter().partition(is_committed);
        tracing::info!(
            committed = done.len(),
            aborted = aborted.len(),
            "the outcome of a transaction is resolved"
        );
        self.confirm(done);
        self.outbox.put_back(aborted);
        true
    }

    fn commit<C: ConsumerContext>(
        &self,
        producer: &mut TransactionalProducer,
        consumer: &BaseConsumer<C>,
        answers: &[PendingAnswer],
    ) -> Result<(), TransactionFailure> {
        // The brokers check the member and its generation, and not the partitions that it owns.
        let Some(group) = consumer.group_metadata().filter(|_| !consumer.assignment_lost()) else {
            return Err(TransactionFailure::Aborted(KafkaError::Canceled));
        };
        let (topic, identity) = (&self.settings.input_topic, self.identity.as_ref());
        let list = of_positions(topic, identity, &Outbox::positions(answers));
        let records = answers.iter().flat_map(PendingAnswer::records).enumerate();
        producer.transact(records, Some(Positions { list, group }))
    }

    fn confirm(&self, answers: Vec<PendingAnswer>) {
        metrics::offsets_committed(Outbox::positions(&answers).len());
        self.vitals.committed(Instant::now());
        for answer in answers {
            answer.notify();
        }
    }

    /// Returns the answers of a failed transaction to where they continue, and decides about its
    /// producer.
    fn recover(
        &mut self,
        failure: TransactionFailure,
        answers: Vec<PendingAnswer>,
    ) -> ProducerFate {
        let count = answers.len();
        let fate = match failure {
            TransactionFailure::TooLarge(indices) => {
                self.reject_too_large(&indices, answers);
                return ProducerFate::Keep;
            }
            TransactionFailure::Permanent(error) => {
                self.fault.raise(error);
                self.outbox.put_back(answers);
                return ProducerFate::Keep;
            }
            TransactionFailure::Aborted(error) => {
                tracing::warn!(%error, answers = count, "a transaction was aborted");
                self.outbox.put_back(answers);
                ProducerFate::Keep
            }
            TransactionFailure::Unusable(reason) => {
                self.outbox.put_back(answers);
                ProducerFate::Replace { reason, answers: count }
            }
            TransactionFailure::OutcomeUnknown(reason) => {
                self.unresolved = answers;
                ProducerFate::Replace { reason, answers: count }
            }
        };
        self.vitals.commit_failed(Instant::now());
        fate
    }

    /// Notifies the tasks of records that are too large, and puts the others back. `indices` count
    /// the records of all answers.
    fn reject_too_large(&self, indices: &[usize], mut answers: Vec<PendingAnswer>) {
        let mut start = 0;
        for answer in &mut answers {
            let end = start + answer.records().count();
            let own = indices.iter().filter(|index| (start..end).contains(*index));
            let positions: Vec<usize> = own.map(|index| index - start).collect();
            answer.reject_too_large(&positions);
            start = end;
        }
        self.outbox.put_back(answers);
    }

    /// Opens a producer with the same transactional id, which aborts the transaction that the
    /// previous one left open.
    fn reopen(&self) -> Option<TransactionalProducer> {
        match open_producer(&self.settings, &self.login, REOPEN_TIMEOUT) {
            Ok(producer) => return Some(producer),
            Err(TransactionFailure::Permanent(error)) => self.fault.raise(error),
            Err(_) => {
                if let Some(repeated) = WARNINGS.admit("reopen", Instant::now()) {
                    tracing::warn!(
                        repeated,
                        "no broker initialised the transactional id; trying again"
                    );
                }
                self.vitals.commit_failed(Instant::now());
            }
        }
        None
    }
}

fn open_producer(
    settings: &Settings,
    login: &Arc<SaslLogin>,
    timeout: Duration,
) -> Result<TransactionalProducer, TransactionFailure> {
    let id = settings.transactional_id();
    let config = settings.transactional_config(&id).map_err(TransactionFailure::Permanent)?;
    let context = DeliveryContext::with_login(Arc::clone(login));
    TransactionalProducer::open(&config, context, id, timeout)
}
