//! Exactly once: answers and the positions behind them are one transaction.
//!
//! All of it runs on the polling thread: it knows the group's generation, by which the brokers fence a worker
//! that was given up for dead, and during a rebalance it is the one that waits. What is aborted stays in memory
//! and is written again.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use crate::telemetry::metrics;

use super::error::StreamError;
use super::outbox::{Outbox, Output, Written};
use super::properties::explain;
use super::publisher::{self, PublishError, QUEUE_FULL_WAIT, Verdict, verdict};
use super::rebalance::Context;
use super::shared::Shared;

/// How long the brokers may take for one step of a transaction.
const STEP: Duration = Duration::from_secs(30);
/// Wait before a step is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// Answers in one transaction: its records are in the producer's queue at once.
const OUTPUTS_MAX: usize = 10_000;

/// The producer of transactions.
pub(super) struct Transactions {
    producer: FutureProducer<publisher::Context>,
    shared: Arc<Shared>,
}

/// Why a transaction was not committed.
enum Failure {
    /// These answers, by index, are larger than their topic takes.
    TooLarge(Vec<usize>),
    /// It was aborted; the same may pass later, or its partitions are somebody else's by then.
    Aborted(KafkaError),
    /// Nothing this worker writes will ever be committed.
    End(StreamError),
}

impl Transactions {
    /// Makes the producer, and ends what a predecessor of the same name has left open. Blocks.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or the brokers refuse the name.
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self, StreamError> {
        let context = publisher::Context::new(Some(Arc::clone(shared)));
        let config = shared.settings.transactional_config()?;
        let producer: FutureProducer<publisher::Context> =
            config.create_with_context(context).map_err(|error| explain(&error))?;
        let transactions = Self { producer, shared: Arc::clone(shared) };
        let deadline = Instant::now() + STEP;
        let opened = transactions.step(deadline, |producer| producer.init_transactions(STEP));
        opened.map_err(|error| transactions.fatal(&error))?;
        Ok(transactions)
    }

    /// Commits what is next in line, if anything is; true when something was. Blocks.
    pub(super) fn cut(&self, consumer: &BaseConsumer<Context>) -> bool {
        let outputs = self.shared.outbox.take_ready(OUTPUTS_MAX);
        if outputs.is_empty() || self.shared.fault.is_raised() {
            return false;
        }
        match self.commit(consumer, &outputs) {
            Ok(()) => {
                metrics::offsets_committed(Outbox::positions(&outputs).len());
                self.shared.vitals().committed(Instant::now());
                for output in outputs {
                    output.tell(Ok(()));
                }
                true
            }
            Err(failure) => {
                metrics::transaction_aborted();
                self.failed(failure, outputs);
                false
            }
        }
    }

    fn failed(&self, failure: Failure, outputs: Vec<Output>) {
        match failure {
            Failure::TooLarge(indices) => {
                let mut rest = Vec::new();
                for (index, output) in outputs.into_iter().enumerate() {
                    match &output.written {
                        Some(Written { topic, .. }) if indices.contains(&index) => {
                            let topic = topic.clone();
                            self.shared.outbox.rewind(output.place);
                            output.tell(Err(PublishError::TooLarge { topic }));
                        }
                        _ => rest.push(output),
                    }
                }
                self.shared.outbox.put_back(rest);
            }
            Failure::Aborted(error) => {
                tracing::warn!(%error, answers = outputs.len(), "a transaction was aborted");
                self.shared.vitals().commit_failed(Instant::now());
                self.shared.outbox.put_back(outputs);
            }
            Failure::End(error) => {
                self.shared.fault.raise(error);
                self.shared.outbox.put_back(outputs);
            }
        }
    }

    fn commit(&self, consumer: &BaseConsumer<Context>, outputs: &[Output]) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP;
        // The brokers check the member and its generation, not what it owns.
        let Some(group) = consumer.group_metadata().filter(|_| !consumer.assignment_lost()) else {
            return Err(Failure::Aborted(KafkaError::Canceled));
        };
        self.step(deadline, FutureProducer::begin_transaction)
            .map_err(|error| Failure::End(self.fatal(&error)))?;
        self.write(outputs).or_else(|failure| self.abort(failure))?;
        let positions = consumer.context().list(&Outbox::positions(outputs));
        let sent = self.step(deadline, |producer| {
            producer.send_offsets_to_transaction(&positions, &group, STEP)
        });
        sent.or_else(|error| self.abort(self.judge(error)))?;
        let committed = self.step(deadline, |producer| producer.commit_transaction(STEP));
        committed.or_else(|error| self.abort(self.judge(error)))
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

    /// Ends the transaction without its answers; gives the reason back, or why not even that was possible.
    fn abort(&self, failure: Failure) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP;
        match self.step(deadline, |producer| producer.abort_transaction(STEP)) {
            Ok(()) => Err(failure),
            Err(error) if matches!(failure, Failure::End(_)) => {
                tracing::debug!(%error, "the last transaction cannot be aborted");
                Err(failure)
            }
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

    /// Runs a step again while that may help, until the deadline.
    fn step(
        &self,
        deadline: Instant,
        run: impl Fn(&FutureProducer<publisher::Context>) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        loop {
            match run(&self.producer) {
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

/// What an abort, or librdkafka before one, threw out of its queue.
fn is_purged(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
    )
}
