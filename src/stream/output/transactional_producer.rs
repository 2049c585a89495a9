//! A transactional producer: its records are committed together, or not at all.
//!
//! Every step blocks, has a time limit, and is retried while a retry may help. After a timeout the
//! producer is unusable: librdkafka is still executing the step and rejects every other call. The
//! caller keeps the records of an aborted transaction and may write them again.

use std::mem;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::stream::broker::kafka_error::{
    QUEUE_FULL_WAIT, SendVerdict, code_of, configuration_error, is_consequence, is_fenced,
    is_forbidden, permanent_send_error, send_verdict,
};
use crate::stream::broker::sasl_login::Credentials;
use crate::stream::error::StreamError;
use crate::stream::output::output_record::OutputRecord;
use crate::stream::output::publisher::DeliveryContext;
use crate::stream::settings::Settings;

/// Time limit for one step of a transaction.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for sending the positions. librdkafka ignores the limit of that call, and waits
/// indefinitely for a group coordinator that has moved (librdkafka #5456, #5511). Brokers need
/// about ten seconds to elect a new one.
const POSITIONS_TIMEOUT: Duration = Duration::from_secs(15);
/// Extra time that librdkafka may take after its own timeout.
const TIMEOUT_SLACK: Duration = Duration::from_secs(3);
/// Time for which records are sent one by one after a topic refused a batch as too large.
const SINGLE_FOR: Duration = Duration::from_mins(1);
/// Wait before a step is retried.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// A producer with a transactional id. Opening another producer with the same id fences this one.
pub(crate) struct TransactionalProducer {
    producer: FutureProducer<DeliveryContext>,
    config: ClientConfig,
    context: DeliveryContext,
    id: String,
    /// End of the time in which each record is sent in a request of its own.
    single_until: Option<Instant>,
}

/// The result of writing the records of a transaction.
enum Written {
    All,
    /// A topic refused a batch as too large, and the transaction is aborted.
    BatchTooLarge,
}

/// Positions of a consumer group, to be committed with the answers to the records before them.
pub(crate) struct Positions {
    pub(crate) list: TopicPartitionList,
    pub(crate) group: ConsumerGroupMetadata,
}

/// The reason why a transaction was not committed, or is not known to be.
pub(crate) enum TransactionFailure {
    /// The records with these indices are too large for their topic, each by itself.
    TooLarge(Vec<usize>),
    /// The transaction was aborted. The same records may succeed later.
    Aborted(KafkaError),
    /// The transaction is not committed, and the producer is unusable: open another one.
    Unusable(String),
    /// The commit was requested and its result never arrived. The producer is unusable.
    OutcomeUnknown(String),
    /// No producer with this transactional id can commit anything.
    Permanent(StreamError),
}

impl TransactionalProducer {
    /// Creates the producer, and aborts the transaction that a predecessor with the same id left
    /// open. Blocks, at most for `timeout`.
    ///
    /// # Errors
    /// [`TransactionFailure::Permanent`] if librdkafka rejects the configuration or the brokers
    /// reject the id; [`TransactionFailure::Unusable`] if the brokers do not answer.
    pub(crate) fn open(
        config: &ClientConfig,
        context: DeliveryContext,
        id: String,
        timeout: Duration,
    ) -> Result<Self, TransactionFailure> {
        let producer: FutureProducer<DeliveryContext> = config
            .create_with_context(context.clone())
            .map_err(|error| TransactionFailure::Permanent(configuration_error(&error)))?;
        let opened = Self { producer, config: config.clone(), context, id, single_until: None };
        let deadline = Instant::now() + timeout;
        match step(deadline, || opened.producer.init_transactions(timeout)) {
            Ok(()) => Ok(opened),
            Err(error) if is_timeout(&error) => {
                opened.abandon();
                Err(TransactionFailure::Unusable(format!("it cannot begin: {error}")))
            }
            Err(error) => Err(TransactionFailure::Permanent(opened.fatal(&error))),
        }
    }

    /// Reconnects with other credentials.
    pub(crate) fn log_in(&mut self, credentials: &Credentials) {
        credentials.set_in(&mut self.config);
        credentials.apply(self.producer.client());
    }

    /// Writes records and commits them with the positions, in one transaction. If a topic refuses a
    /// batch as too large, writes them again one by one. Blocks.
    ///
    /// # Errors
    /// [`TransactionFailure`]. Readers of committed records see none of the records then, except
    /// perhaps after [`TransactionFailure::OutcomeUnknown`].
    pub(crate) fn transact<'a>(
        &mut self,
        records: impl Iterator<Item = (usize, &'a OutputRecord)> + Clone,
        positions: Option<Positions>,
    ) -> Result<(), TransactionFailure> {
        if self.single_until.is_some_and(|end| end < Instant::now()) {
            self.reopen(None)?;
        }
        if let Written::BatchTooLarge = self.begin_and_write(records.clone())? {
            tracing::warn!(
                "a topic rejected a batch as too large; sending one record per request for a \
                 minute; raise its max.message.bytes or lower batch.size in kafka.properties"
            );
            self.reopen(Some(Instant::now() + SINGLE_FOR))?;
            self.begin_and_write(records)?;
        }
        if let Some(positions) = positions {
            self.send_positions(positions)?;
        }
        let deadline = Instant::now() + STEP_TIMEOUT;
        let committed = step(deadline, || self.producer.commit_transaction(STEP_TIMEOUT));
        committed.map_err(|error| match &error {
            KafkaError::Transaction(reason) if reason.txn_requires_abort() => {
                self.abort(TransactionFailure::Aborted(error))
            }
            KafkaError::Flush(_) => self.abort(TransactionFailure::Aborted(error)),
            // The coordinator may have committed the transaction, or may still do so. Nothing may
            // be written again until the outcome is known.
            _ => match self.broken(&error) {
                TransactionFailure::Unusable(reason) => TransactionFailure::OutcomeUnknown(reason),
                permanent => permanent,
            },
        })
    }

    /// Drops the producer on its own thread, because librdkafka may block there indefinitely.
    pub(crate) fn abandon(self) {
        let dropping = thread::Builder::new().name("dogiqa-dropping".to_owned());
        if let Err(error) = dropping.spawn(move || drop(self)) {
            tracing::warn!(%error, "no thread to drop a producer; it is dropped on this one");
        }
    }

    /// Replaces the client by one with the same id, which sends records one by one until the given
    /// time.
    fn reopen(&mut self, single_until: Option<Instant>) -> Result<(), TransactionFailure> {
        let config = match single_until {
            Some(_) => Settings::with_single_records(self.config.clone()),
            None => self.config.clone(),
        };
        let (context, id) = (self.context.clone(), self.id.clone());
        let mut successor = Self::open(&config, context, id, STEP_TIMEOUT)?;
        successor.config = self.config.clone();
        successor.single_until = single_until;
        mem::replace(self, successor).abandon();
        Ok(())
    }

    /// Begins a transaction and writes its records. Aborts it if that fails.
    fn begin_and_write<'a>(
        &self,
        records: impl Iterator<Item = (usize, &'a OutputRecord)>,
    ) -> Result<Written, TransactionFailure> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        step(deadline, || self.producer.begin_transaction())
            .map_err(|error| self.broken(&error))?;
        match self.write(records) {
            Ok(Written::BatchTooLarge) => match self.roll_back() {
                Ok(()) => Ok(Written::BatchTooLarge),
                Err(error) => Err(self.broken(&error)),
            },
            Err(failure) => Err(self.abort(failure)),
            all => all,
        }
    }

    /// Writes all records and waits until the brokers have them.
    fn write<'a>(
        &self,
        records: impl Iterator<Item = (usize, &'a OutputRecord)>,
    ) -> Result<Written, TransactionFailure> {
        // Records that the client refuses, and those of batches that the brokers refuse.
        let (mut too_large, mut in_large_batches) = (Vec::new(), Vec::new());
        let mut sent = Vec::new();
        let mut failed = Ok(());
        for (index, record) in records {
            match self.send(record) {
                Ok(acknowledged) => sent.push((index, &record.topic, acknowledged)),
                Err(error) => failed = self.note(index, &record.topic, error, &mut too_large),
            }
            if failed.is_err() {
                break;
            }
        }
        // Flush now instead of waiting for `linger.ms`; the commit would flush anyway.
        let flushed = self.producer.flush(STEP_TIMEOUT).map_err(TransactionFailure::Aborted);
        for (index, topic, acknowledged) in sent {
            let noted = match block_on(acknowledged) {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => self.note(index, topic, error, &mut in_large_batches),
                Err(_) => Err(TransactionFailure::Aborted(KafkaError::Canceled)),
            };
            failed = failed.and(noted);
        }
        // Report records that are too large first: the others may have failed because of them, and
        // would fail again.
        if !in_large_batches.is_empty() && self.single_until.is_none() {
            return Ok(Written::BatchTooLarge);
        }
        too_large.append(&mut in_large_batches);
        if too_large.is_empty() {
            failed.and(flushed).map(|()| Written::All)
        } else {
            Err(TransactionFailure::TooLarge(too_large))
        }
    }

    fn send(&self, output: &OutputRecord) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = output.headers.clone();
        loop {
            let mut record = FutureRecord::<[u8], [u8]>::to(&output.topic).headers(headers);
            record.partition = output.partition;
            record.key = output.key.as_deref();
            record.payload = output.payload.as_deref();
            let (error, record) = match self.producer.send_result(record) {
                Ok(acknowledged) => return Ok(acknowledged),
                Err(refused) => refused,
            };
            if send_verdict(&error) != SendVerdict::QueueFull {
                return Err(error);
            }
            headers = record.headers.unwrap_or_default();
            thread::sleep(QUEUE_FULL_WAIT);
        }
    }

    /// Classifies the error of one record. A record that is too large is collected; any other error
    /// fails the transaction.
    fn note(
        &self,
        index: usize,
        topic: &str,
        error: KafkaError,
        too_large: &mut Vec<usize>,
    ) -> Result<(), TransactionFailure> {
        match send_verdict(&error) {
            SendVerdict::TooLarge => {
                too_large.push(index);
                Ok(())
            }
            SendVerdict::Transient | SendVerdict::QueueFull => {
                Err(TransactionFailure::Aborted(error))
            }
            SendVerdict::Permanent if is_consequence(code_of(&error)) => {
                Err(TransactionFailure::Aborted(error))
            }
            SendVerdict::Permanent => {
                let fatal = self.producer.client().fatal_error();
                if fatal.as_ref().is_some_and(|(code, _)| is_fenced(*code)) {
                    return Err(TransactionFailure::Permanent(StreamError::Fenced {
                        id: self.id.clone(),
                    }));
                }
                Err(TransactionFailure::Permanent(permanent_send_error(fatal, topic, error)))
            }
        }
    }

    /// Adds the positions, on a thread that can be abandoned if the call does not return.
    fn send_positions(
        &self,
        Positions { list, group }: Positions,
    ) -> Result<(), TransactionFailure> {
        let deadline = Instant::now() + POSITIONS_TIMEOUT;
        let (producer, (done, result)) = (self.producer.clone(), mpsc::sync_channel(1));
        let call = move || {
            let sent = step(deadline, || {
                producer.send_offsets_to_transaction(&list, &group, POSITIONS_TIMEOUT)
            });
            // Fails if the caller has stopped waiting.
            done.send(sent).ok();
        };
        let started = thread::Builder::new().name("dogiqa-positions".to_owned()).spawn(call);
        if let Err(error) = started {
            let bug = StreamError::Bug(format!("the thread for positions did not start: {error}"));
            return Err(self.abort(TransactionFailure::Permanent(bug)));
        }
        match result.recv_timeout(POSITIONS_TIMEOUT + TIMEOUT_SLACK) {
            Ok(sent) => sent.map_err(|error| self.abort(self.classify(error))),
            Err(_) => Err(TransactionFailure::Unusable(
                "the brokers did not accept its offsets in time".to_owned(),
            )),
        }
    }

    /// Aborts the transaction. Returns `failure`, or the reason why it could not be aborted.
    fn abort(&self, failure: TransactionFailure) -> TransactionFailure {
        match self.roll_back() {
            Ok(()) => failure,
            Err(error) if matches!(failure, TransactionFailure::Permanent(_)) => {
                tracing::debug!(%error, "the last transaction cannot be aborted");
                failure
            }
            Err(error) => self.broken(&error),
        }
    }

    fn roll_back(&self) -> Result<(), KafkaError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        step(deadline, || self.producer.abort_transaction(STEP_TIMEOUT))
    }

    fn classify(&self, error: KafkaError) -> TransactionFailure {
        match &error {
            KafkaError::Transaction(reason) if reason.is_fatal() => self.broken(&error),
            // Retriable errors were retried until the deadline. Abort whatever can be aborted.
            KafkaError::Transaction(reason)
                if reason.txn_requires_abort() || reason.is_retriable() =>
            {
                TransactionFailure::Aborted(error)
            }
            KafkaError::Flush(_) => TransactionFailure::Aborted(error),
            _ => self.broken(&error),
        }
    }

    /// Classifies the error of a producer that cannot continue. Another producer can, unless its id
    /// is fenced or forbidden.
    fn broken(&self, error: &KafkaError) -> TransactionFailure {
        match self.fatal(error) {
            StreamError::Fatal(reason) => TransactionFailure::Unusable(reason),
            permanent => TransactionFailure::Permanent(permanent),
        }
    }

    fn fatal(&self, error: &KafkaError) -> StreamError {
        let code = code_of(error);
        let fatal = self.producer.client().fatal_error();
        if is_fenced(code) || fatal.as_ref().is_some_and(|(code, _)| is_fenced(*code)) {
            return StreamError::Fenced { id: self.id.clone() };
        }
        if is_forbidden(code) {
            let action = format!("use the transactional id {}", self.id);
            return StreamError::Forbidden { action, code };
        }
        StreamError::Fatal(fatal.map_or_else(|| error.to_string(), |(_, reason)| reason))
    }
}

/// Runs a step, and retries it until the deadline while the error is retriable.
fn step(deadline: Instant, run: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match run() {
            Err(KafkaError::Transaction(reason))
                if reason.is_retriable() && Instant::now() < deadline =>
            {
                tracing::debug!(%reason, "a step of a transaction is retried");
                thread::sleep(RETRY_WAIT);
            }
            result => return result,
        }
    }
}

/// Returns true if a step failed because no answer arrived in time.
fn is_timeout(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(reason) if reason.is_retriable() && !reason.is_fatal())
}
