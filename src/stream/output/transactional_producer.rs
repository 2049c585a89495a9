//! A producer of transactions: records that are committed together or not at all.
//!
//! Every step blocks, and is tried again while that may help. What is aborted stays with the caller, who may
//! write it again. Every step has a limit, and a producer that passed one is of no use any more: librdkafka then still
//! works on the step, and refuses others.

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
use crate::stream::error::StreamError;
use crate::stream::output::output_record::OutputRecord;
use crate::stream::output::publisher::DeliveryContext;

/// How long the brokers may take for one step of a transaction.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long they may take for the positions. Librdkafka ignores the limit of that call, and waits for ever for a group
/// coordinator that has moved (librdkafka #5456, #5511); brokers need about ten seconds to name a new one.
const POSITIONS: Duration = Duration::from_secs(15);
/// What librdkafka may be late by where it keeps a limit.
const LATE: Duration = Duration::from_secs(3);
/// Wait before a step is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// A producer under a name of its own: who opens one under the same name puts this one out.
pub(crate) struct TransactionalProducer {
    producer: FutureProducer<DeliveryContext>,
    id: String,
}

/// Positions of a group, committed with the records that answer what is before them.
pub(crate) struct Positions {
    pub(crate) list: TopicPartitionList,
    pub(crate) group: ConsumerGroupMetadata,
}

/// Why a transaction was not committed, as far as is known.
pub(crate) enum TransactionFailure {
    /// These records, by index, are larger than their topic takes.
    TooLarge(Vec<usize>),
    /// It was aborted; the same may pass later.
    Aborted(KafkaError),
    /// It is not committed, and this producer is of no use any more: another one has to go on.
    Unusable(String),
    /// The same, but whether it was committed is not known: its end was asked for and never seen.
    OutcomeUnknown(String),
    /// Nothing this producer writes will ever be committed.
    Permanent(StreamError),
}

impl TransactionalProducer {
    /// Makes the producer, and ends what a predecessor of the same name has left open, within `limit`. Blocks.
    ///
    /// # Errors
    /// [`TransactionFailure::Permanent`] when librdkafka refuses the configuration, or the brokers refuse the name;
    /// [`TransactionFailure::Unusable`] when they do not answer.
    pub(crate) fn open(
        config: &ClientConfig,
        id: String,
        limit: Duration,
    ) -> Result<Self, TransactionFailure> {
        let producer: FutureProducer<DeliveryContext> = config
            .create_with_context(DeliveryContext::new(None))
            .map_err(|error| TransactionFailure::Permanent(configuration_error(&error)))?;
        let opened = Self { producer, id };
        let deadline = Instant::now() + limit;
        match step(deadline, || opened.producer.init_transactions(limit)) {
            Ok(()) => Ok(opened),
            Err(error) if is_slow(&error) => {
                opened.give_up();
                Err(TransactionFailure::Unusable(format!("it cannot begin: {error}")))
            }
            Err(error) => Err(TransactionFailure::Permanent(opened.fatal(&error))),
        }
    }

    /// Writes records, and commits them with the positions, in one transaction. Blocks.
    ///
    /// # Errors
    /// [`TransactionFailure`]; but for [`TransactionFailure::OutcomeUnknown`] nothing of it will be seen by a reader of committed records.
    pub(crate) fn transact<'a>(
        &self,
        records: impl Iterator<Item = (usize, &'a OutputRecord)>,
        positions: Option<Positions>,
    ) -> Result<(), TransactionFailure> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        step(deadline, || self.producer.begin_transaction())
            .map_err(|error| self.broken(&error))?;
        self.write(records).or_else(|failure| self.abort(failure))?;
        if let Some(positions) = positions {
            self.hand_in(positions)?;
        }
        let committed = step(deadline, || self.producer.commit_transaction(STEP_TIMEOUT));
        committed.or_else(|error| match &error {
            KafkaError::Transaction(reason) if reason.txn_requires_abort() => {
                self.abort(TransactionFailure::Aborted(error))
            }
            KafkaError::Flush(_) => self.abort(TransactionFailure::Aborted(error)),
            // The coordinator may have committed it, or do so yet: nothing here may be written again before that is
            // known.
            _ => Err(match self.broken(&error) {
                TransactionFailure::Unusable(reason) => TransactionFailure::OutcomeUnknown(reason),
                end => end,
            }),
        })
    }

    /// Lets go of a producer that may never return. Its threads end with it, whenever that is.
    pub(crate) fn give_up(self) {
        let dropping = thread::Builder::new().name("dogiqa-given-up".to_owned());
        if let Err(error) = dropping.spawn(move || drop(self)) {
            tracing::warn!(%error, "a producer is dropped in place");
        }
    }

    /// Writes all records and waits until the brokers have them.
    fn write<'a>(
        &self,
        records: impl Iterator<Item = (usize, &'a OutputRecord)>,
    ) -> Result<(), TransactionFailure> {
        let mut too_large = Vec::new();
        let mut sent = Vec::new();
        let mut failed = Ok(());
        for (index, written) in records {
            match self.send(written) {
                Ok(acknowledged) => sent.push((index, &written.topic, acknowledged)),
                Err(error) => failed = self.note((index, &written.topic), error, &mut too_large),
            }
            if failed.is_err() {
                break;
            }
        }
        // The end of the transaction flushes, and here linger would only cost time.
        let flushed = self.producer.flush(STEP_TIMEOUT).map_err(TransactionFailure::Aborted);
        for (index, topic, acknowledged) in sent {
            let noted = match block_on(acknowledged) {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => self.note((index, topic), error, &mut too_large),
                Err(_) => Err(TransactionFailure::Aborted(KafkaError::Canceled)),
            };
            failed = failed.and(noted);
        }
        // What is too large comes first: the rest may have failed because of it, and would again.
        if too_large.is_empty() {
            failed.and(flushed)
        } else {
            Err(TransactionFailure::TooLarge(too_large))
        }
    }

    fn send(&self, written: &OutputRecord) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = written.headers.clone();
        loop {
            let mut record = FutureRecord::<[u8], [u8]>::to(&written.topic).headers(headers);
            record.partition = written.partition;
            record.key = written.key.as_deref();
            record.payload = written.payload.as_deref();
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

    /// Of a record that was not written: too large is its own fault, anything else the transaction's.
    fn note(
        &self,
        (index, topic): (usize, &str),
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

    /// Adds the positions, on a thread that can be left behind if the call does not return.
    fn hand_in(&self, Positions { list, group }: Positions) -> Result<(), TransactionFailure> {
        let deadline = Instant::now() + POSITIONS;
        let (producer, (done, result)) = (self.producer.clone(), mpsc::sync_channel(1));
        let call = move || {
            let handed_in =
                step(deadline, || producer.send_offsets_to_transaction(&list, &group, POSITIONS));
            // Whoever waited may have given up.
            done.send(handed_in).ok();
        };
        let started = thread::Builder::new().name("dogiqa-positions".to_owned()).spawn(call);
        if let Err(error) = started {
            let bug = StreamError::Bug(format!("no thread for positions: {error}"));
            return self.abort(TransactionFailure::Permanent(bug));
        }
        match result.recv_timeout(POSITIONS + LATE) {
            Ok(handed_in) => handed_in.or_else(|error| self.abort(self.judge(error))),
            Err(_) => Err(TransactionFailure::Unusable("its positions are not taken".to_owned())),
        }
    }

    /// Ends the transaction without its records; gives the reason back, or why not even that was possible.
    fn abort(&self, failure: TransactionFailure) -> Result<(), TransactionFailure> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        match step(deadline, || self.producer.abort_transaction(STEP_TIMEOUT)) {
            Ok(()) => Err(failure),
            Err(error) if matches!(failure, TransactionFailure::Permanent(_)) => {
                tracing::debug!(%error, "the last transaction cannot be aborted");
                Err(failure)
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn judge(&self, error: KafkaError) -> TransactionFailure {
        match &error {
            KafkaError::Transaction(reason) if reason.is_fatal() => self.broken(&error),
            // What may pass was tried until the deadline; a transaction that can be aborted is.
            KafkaError::Transaction(reason)
                if reason.txn_requires_abort() || reason.is_retriable() =>
            {
                TransactionFailure::Aborted(error)
            }
            KafkaError::Flush(_) => TransactionFailure::Aborted(error),
            _ => self.broken(&error),
        }
    }

    /// What a producer that cannot go on means: another one can, unless this one's name is taken or forbidden.
    fn broken(&self, error: &KafkaError) -> TransactionFailure {
        match self.fatal(error) {
            StreamError::Fatal(reason) => TransactionFailure::Unusable(reason),
            end => TransactionFailure::Permanent(end),
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

/// Runs a step again while that may help, until the deadline.
fn step(deadline: Instant, run: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match run() {
            Err(KafkaError::Transaction(reason))
                if reason.is_retriable() && Instant::now() < deadline =>
            {
                tracing::debug!(%reason, "a step of a transaction is tried again");
                thread::sleep(AGAIN);
            }
            result => return result,
        }
    }
}

/// Whether a step failed for want of an answer, and not because of one.
fn is_slow(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(reason) if reason.is_retriable() && !reason.is_fatal())
}
