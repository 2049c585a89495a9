//! Exactly once: answers and the positions behind them are one transaction.
//!
//! All of it runs on the polling thread: it knows the group's generation, by which the brokers fence a worker
//! that was given up for dead, and during a rebalance it is the one that waits. What is aborted stays in memory
//! and is written again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::telemetry::metrics;

use super::error::StreamError;
use super::outbox::{Outbox, Output};
use super::publisher::{self, PublishError};
use super::rebalance::Context;
use super::shared::Shared;
use super::transactional::{Failure, Positions, STEP, TransactionalProducer, Written};

/// How long the polling thread waits for the same when a producer is replaced; it tries again.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
/// Answers in one transaction: its records are in the producer's queue at once.
const OUTPUTS_MAX: usize = 10_000;

/// What commits a worker's answers.
pub(super) struct Transactions {
    /// None from when one is given up until the brokers take the next.
    producer: Mutex<Option<TransactionalProducer>>,
    shared: Arc<Shared>,
}

impl Transactions {
    /// Makes the producer, and ends what a predecessor of the same name has left open. Blocks.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or the brokers refuse the name or do not answer.
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self, StreamError> {
        let producer = open(shared, STEP).map_err(|failure| {
            if let Failure::End(error) = failure {
                return error;
            }
            let id = shared.settings.transactional_id();
            StreamError::Fatal(format!("no broker begins transactions of {id} within {STEP:?}"))
        })?;
        Ok(Self { producer: Mutex::new(Some(producer)), shared: Arc::clone(shared) })
    }

    /// Commits what is next in line, if anything is; true when something was. Blocks.
    pub(super) fn cut(&self, consumer: &BaseConsumer<Context>) -> bool {
        if self.shared.outbox.len() == 0 || self.shared.fault.is_raised() {
            return false;
        }
        let mut slot = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(producer) = slot.take().or_else(|| self.open_again()) else { return false };
        let outputs = self.shared.outbox.take_ready(OUTPUTS_MAX);
        if outputs.is_empty() {
            *slot = Some(producer);
            return false;
        }
        match commit(&producer, consumer, &outputs) {
            Ok(()) => {
                *slot = Some(producer);
                metrics::offsets_committed(Outbox::positions(&outputs).len());
                self.shared.vitals().committed(Instant::now());
                for output in outputs {
                    output.tell(Ok(()));
                }
                true
            }
            Err(failure) => {
                metrics::transaction_aborted();
                match failure {
                    Failure::Stuck(_) => producer.give_up(),
                    _ => *slot = Some(producer),
                }
                self.failed(failure, outputs);
                false
            }
        }
    }

    /// A producer of the same name: its beginning aborts what the one before it has left open.
    fn open_again(&self) -> Option<TransactionalProducer> {
        match open(&self.shared, OPEN_AGAIN) {
            Ok(producer) => return Some(producer),
            Err(Failure::End(error)) => self.shared.fault.raise(error),
            Err(_) => {
                tracing::warn!("no broker begins a transaction, trying again");
                self.shared.vitals().commit_failed(Instant::now());
            }
        }
        None
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
            Failure::Stuck(reason) => {
                let answers = outputs.len();
                tracing::warn!(reason, answers, "a transaction hangs, another producer goes on");
                self.shared.vitals().commit_failed(Instant::now());
                self.shared.outbox.put_back(outputs);
            }
            Failure::End(error) => {
                self.shared.fault.raise(error);
                self.shared.outbox.put_back(outputs);
            }
        }
    }
}

fn open(shared: &Arc<Shared>, limit: Duration) -> Result<TransactionalProducer, Failure> {
    let context = publisher::Context::new(Some(Arc::clone(shared)));
    let id = shared.settings.transactional_id();
    let config = shared.settings.transactional_config(&id).map_err(Failure::End)?;
    TransactionalProducer::open(&config, id, context, limit)
}

fn commit(
    producer: &TransactionalProducer,
    consumer: &BaseConsumer<Context>,
    outputs: &[Output],
) -> Result<(), Failure> {
    // The brokers check the member and its generation, not what it owns.
    let Some(group) = consumer.group_metadata().filter(|_| !consumer.assignment_lost()) else {
        return Err(Failure::Aborted(KafkaError::Canceled));
    };
    let positions = Positions { list: consumer.context().list(&Outbox::positions(outputs)), group };
    let written = outputs.iter().enumerate();
    let written = written.filter_map(|(index, output)| Some((index, output.written.as_ref()?)));
    producer.transact(written, Some(positions))
}
