//! A producer of transactions, step by step: begin, write, hand in the positions, commit; or abort.
//!
//! Everything here blocks. Every step has a limit, and a producer that passed one is of no use any more: librdkafka
//! then still works on the step, and refuses others.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::error::StreamError;
use super::outbox::{Output, Written};
use super::properties::explain;
use super::publisher::{self, QUEUE_FULL_WAIT, Verdict, verdict};
use super::shared::Shared;

/// How long the brokers may take for one step of a transaction.
const STEP: Duration = Duration::from_secs(30);
/// How long they may take for the positions. Librdkafka ignores the limit of that call, and waits for ever for a group
/// coordinator that has moved (librdkafka #5456, #5511); brokers need about ten seconds to name a new one.
const POSITIONS: Duration = Duration::from_secs(15);
/// Wait before a step is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// A producer under its transactional id.
pub(super) struct Transactional {
    producer: FutureProducer<publisher::Context>,
    shared: Arc<Shared>,
}

/// Why a transaction was not committed.
pub(super) enum Failure {
    /// These answers, by index, are larger than their topic takes.
    TooLarge(Vec<usize>),
    /// It was aborted; the same may pass later, or its partitions are somebody else's by then.
    Aborted(KafkaError),
    /// A step did not end: another producer has to go on.
    Stuck(&'static str),
    /// Nothing this worker writes will ever be committed.
    End(StreamError),
}

impl Transactional {
    /// Makes the producer, and ends what a predecessor of the same name has left open, within `limit`.
    ///
    /// # Errors
    /// [`Failure::End`] when librdkafka refuses the configuration, or the brokers refuse the name;
    /// [`Failure::Stuck`] when they do not answer.
    pub(super) fn open(shared: &Arc<Shared>, limit: Duration) -> Result<Self, Failure> {
        let context = publisher::Context::new(Some(Arc::clone(shared)));
        let config = shared.settings.transactional_config().map_err(Failure::End)?;
        let producer = config.create_with_context(context);
        let producer = producer.map_err(|error| Failure::End(explain(&error)))?;
        let this = Self { producer, shared: Arc::clone(shared) };
        let deadline = Instant::now() + limit;
        let opened = step(deadline, || this.producer.init_transactions(limit));
        match opened {
            Ok(()) => Ok(this),
            Err(error) if is_slow(&error) => {
                this.give_up();
                Err(Failure::Stuck("it cannot begin"))
            }
            Err(error) => Err(Failure::End(this.fatal(&error))),
        }
    }

    /// Writes the answers and commits them with the positions.
    ///
    /// # Errors
    /// Why not; it is aborted then, unless it is stuck or was the last one.
    pub(super) fn commit(
        &self,
        outputs: &[Output],
        positions: TopicPartitionList,
        group: ConsumerGroupMetadata,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP;
        step(deadline, || self.producer.begin_transaction())
            .map_err(|error| Failure::End(self.fatal(&error)))?;
        self.write(outputs).or_else(|failure| self.abort(failure))?;
        self.hand_in(positions, group)?;
        let committed = step(deadline, || self.producer.commit_transaction(STEP));
        committed.or_else(|error| self.abort(self.judge(error)))
    }

    /// Lets go of a producer that may never return. Its thread ends with it, whenever that is.
    pub(super) fn give_up(self) {
        let dropping = thread::Builder::new().name("dogiqa-given-up".to_owned());
        if let Err(error) = dropping.spawn(move || drop(self)) {
            tracing::warn!(%error, "a producer is dropped in place");
        }
    }

    /// Writes all answers and waits until the brokers have them.
    fn write(&self, outputs: &[Output]) -> Result<(), Failure> {
        let mut too_large = Vec::new();
        let mut sent = Vec::with_capacity(outputs.len());
        let written = outputs.iter().enumerate();
        let written = written.filter_map(|(index, output)| Some((index, output.written.as_ref()?)));
        for (index, written) in written {
            match self.send(written) {
                Ok(acknowledged) => sent.push((index, &written.topic, acknowledged)),
                Err(error) => self.note((index, &written.topic), error, &mut too_large)?,
            }
        }
        // The end of the transaction flushes, and here linger would only cost time.
        let flushed = self.producer.flush(STEP);
        for (index, topic, acknowledged) in sent {
            match block_on(acknowledged) {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => self.note((index, topic), error, &mut too_large)?,
                Err(_) => return Err(Failure::Aborted(KafkaError::Canceled)),
            }
        }
        flushed.map_err(Failure::Aborted)?;
        if too_large.is_empty() { Ok(()) } else { Err(Failure::TooLarge(too_large)) }
    }

    fn send(&self, output: &Written) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = output.headers.clone();
        loop {
            let mut record =
                FutureRecord::to(&output.topic).payload(&output.payload).headers(headers);
            record.key = output.key.as_deref();
            let (error, record) = match self.producer.send_result(record) {
                Ok(acknowledged) => return Ok(acknowledged),
                Err(refused) => refused,
            };
            if verdict(&error) != Verdict::QueueFull {
                return Err(error);
            }
            headers = record.headers.unwrap_or_default();
            thread::sleep(QUEUE_FULL_WAIT);
        }
    }

    /// Of an answer that was not written: too large is its own fault, anything else the transaction's.
    fn note(
        &self,
        (index, topic): (usize, &str),
        error: KafkaError,
        too_large: &mut Vec<usize>,
    ) -> Result<(), Failure> {
        match verdict(&error) {
            Verdict::TooLarge => {
                too_large.push(index);
                Ok(())
            }
            Verdict::Transient | Verdict::QueueFull => Err(Failure::Aborted(error)),
            Verdict::Permanent if is_purged(&error) => Err(Failure::Aborted(error)),
            Verdict::Permanent => Err(Failure::End(publisher::permanent(
                self.producer.client().fatal_error(),
                topic,
                error,
            ))),
        }
    }

    /// Adds the positions, on a thread that can be left behind if the call does not return.
    fn hand_in(
        &self,
        positions: TopicPartitionList,
        group: ConsumerGroupMetadata,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + POSITIONS;
        let (producer, (done, result)) = (self.producer.clone(), mpsc::sync_channel(1));
        let call = move || {
            let handed_in = step(deadline, || {
                producer.send_offsets_to_transaction(&positions, &group, POSITIONS)
            });
            // Whoever waited may have given up.
            done.send(handed_in).ok();
        };
        let started = thread::Builder::new().name("dogiqa-positions".to_owned()).spawn(call);
        if let Err(error) = started {
            return Err(Failure::End(StreamError::Bug(format!(
                "no thread for positions: {error}"
            ))));
        }
        match result.recv_timeout(POSITIONS + STEP / 10) {
            Ok(handed_in) => handed_in.or_else(|error| self.abort(self.judge(error))),
            Err(_) => Err(Failure::Stuck("its positions are not taken")),
        }
    }

    /// Ends the transaction without its answers; gives the reason back, or why not even that was possible.
    fn abort(&self, failure: Failure) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP;
        match step(deadline, || self.producer.abort_transaction(STEP)) {
            Ok(()) => Err(failure),
            Err(error) if matches!(failure, Failure::End(_)) => {
                tracing::debug!(%error, "the last transaction cannot be aborted");
                Err(failure)
            }
            Err(error) if is_slow(&error) => Err(Failure::Stuck("it cannot be aborted")),
            Err(error) => Err(Failure::End(self.fatal(&error))),
        }
    }

    fn judge(&self, error: KafkaError) -> Failure {
        match &error {
            KafkaError::Transaction(reason) if reason.is_fatal() => {
                Failure::End(self.fatal(&error))
            }
            // What may pass was tried until the deadline; a transaction that can be aborted is.
            KafkaError::Transaction(reason)
                if reason.txn_requires_abort() || reason.is_retriable() =>
            {
                Failure::Aborted(error)
            }
            KafkaError::Flush(_) => Failure::Aborted(error),
            _ => Failure::End(self.fatal(&error)),
        }
    }

    fn fatal(&self, error: &KafkaError) -> StreamError {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let is_fenced = matches!(
            code,
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::ProducerFenced
        );
        if is_fenced {
            return StreamError::Fenced { id: self.shared.settings.transactional_id() };
        }
        if StreamError::is_forbidden(code) {
            let action =
                format!("use the transactional id {}", self.shared.settings.transactional_id());
            return StreamError::Forbidden { action, code };
        }
        let reason = self.producer.client().fatal_error().map(|(_, reason)| reason);
        StreamError::Fatal(reason.unwrap_or_else(|| error.to_string()))
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

/// What an abort, or librdkafka before one, threw out of its queue.
fn is_purged(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
    )
}
