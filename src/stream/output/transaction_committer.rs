//! Exactly once: answers and the positions behind them are one transaction.
//!
//! All of it runs on the polling thread: it knows the group's generation, by which the brokers fence a worker
//! that was given up for dead, and during a rebalance it is the one that waits. What is aborted stays in memory
//! and is written again.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use crate::telemetry::metrics;

use crate::stream::error::StreamError;
use crate::stream::intake::rebalance::RebalanceContext;
use crate::stream::output::outbox::{Outbox, Output};
use crate::stream::output::output_record::{OutputRecord, PublishError};
use crate::stream::output::transactional_producer::{
    Positions, STEP_TIMEOUT, TransactionFailure, TransactionalProducer,
};
use crate::stream::shared::Shared;

/// How long the polling thread waits for the same when a producer is replaced; it tries again.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
/// Answers in one transaction: its records are in the producer's queue at once.
const OUTPUTS_MAX: usize = 10_000;
/// How long the brokers may take to say what the group has committed.
const SETTLE: Duration = Duration::from_secs(5);
/// Producers that are given up in a row before the worker is.
const GIVEN_UP_MAX: u32 = 5;

/// What commits a worker's answers.
pub(crate) struct Transactions {
    state: Mutex<State>,
    shared: Arc<Shared>,
}

struct State {
    /// None from when one is given up until the brokers take the next.
    producer: Option<TransactionalProducer>,
    /// Answers of a transaction whose end nobody saw: committed or not, and both must not be guessed.
    unsettled: Vec<Output>,
    /// Producers that were given up since the last commit.
    given_up: u32,
}

impl Transactions {
    /// Makes the producer, and ends what a predecessor of the same name has left open. Blocks.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or the brokers refuse the name or do not answer.
    pub(crate) fn open(shared: &Arc<Shared>) -> Result<Self, StreamError> {
        let producer = open(shared, STEP_TIMEOUT).map_err(|failure| {
            if let TransactionFailure::Permanent(error) = failure {
                return error;
            }
            let id = shared.settings.transactional_id();
            StreamError::Fatal(format!(
                "no broker begins transactions of {id} within {STEP_TIMEOUT:?}"
            ))
        })?;
        let state = State { producer: Some(producer), unsettled: Vec::new(), given_up: 0 };
        Ok(Self { state: Mutex::new(state), shared: Arc::clone(shared) })
    }

    /// Whether the end of every transaction is known.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().unsettled.is_empty()
    }

    /// Commits what is next in line, if anything is; true when something was. Blocks.
    pub(crate) fn cut(&self, consumer: &BaseConsumer<RebalanceContext>) -> bool {
        if self.shared.fault.is_raised() {
            return false;
        }
        let mut state = self.lock();
        if state.producer.is_none() {
            // Also where nothing waits: until its beginning what was left open holds readers back.
            state.producer = self.open_again();
        }
        let Some(producer) = state.producer.take() else { return false };
        if !self.settle(&mut state.unsettled, consumer) {
            state.producer = Some(producer);
            return false;
        }
        let outputs = self.shared.outbox.take_ready(OUTPUTS_MAX);
        if outputs.is_empty() {
            state.producer = Some(producer);
            return false;
        }
        let Err(failure) = commit(&producer, consumer, &outputs) else {
            (state.producer, state.given_up) = (Some(producer), 0);
            self.committed(outputs);
            return true;
        };
        metrics::transaction_aborted();
        self.failed(&mut state, producer, failure, outputs);
        false
    }

    /// Finds out what became of a transaction whose end nobody saw; true when there is none left. Its successor has
    /// begun, and with that it is over: what the group has committed says how.
    fn settle(
        &self,
        unsettled: &mut Vec<Output>,
        consumer: &BaseConsumer<RebalanceContext>,
    ) -> bool {
        if unsettled.is_empty() {
            return true;
        }
        let context = consumer.context();
        let asked = context.list(&Outbox::positions(unsettled));
        let committed = match consumer.committed_offsets(asked, SETTLE) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::warn!(%error, "what the group has committed is not known yet");
                self.shared.vitals().commit_failed(Instant::now());
                return false;
            }
        };
        let is_committed = |output: &Output| {
            let found = committed.find_partition(context.topic(), output.slot.partition);
            matches!(found.map(|found| found.offset()), Some(Offset::Offset(next)) if next > output.offset())
        };
        let (done, rest): (Vec<_>, Vec<_>) =
            mem::take(unsettled).into_iter().partition(is_committed);
        tracing::info!(committed = done.len(), aborted = rest.len(), "a transaction is settled");
        self.committed(done);
        self.shared.outbox.put_back(rest);
        true
    }

    fn committed(&self, outputs: Vec<Output>) {
        metrics::offsets_committed(Outbox::positions(&outputs).len());
        self.shared.vitals().committed(Instant::now());
        for output in outputs {
            output.tell(Ok(()));
        }
    }

    /// A producer of the same name: its beginning ends what the one before it has left open.
    fn open_again(&self) -> Option<TransactionalProducer> {
        match open(&self.shared, OPEN_AGAIN) {
            Ok(producer) => return Some(producer),
            Err(TransactionFailure::Permanent(error)) => self.shared.fault.raise(error),
            Err(_) => {
                tracing::warn!("no broker begins a transaction, trying again");
                self.shared.vitals().commit_failed(Instant::now());
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(
        &self,
        state: &mut State,
        producer: TransactionalProducer,
        failure: TransactionFailure,
        outputs: Vec<Output>,
    ) {
        let answers = outputs.len();
        match failure {
            TransactionFailure::TooLarge(indices) => {
                state.producer = Some(producer);
                self.leave_out(&indices, outputs);
                return;
            }
            TransactionFailure::Aborted(error) => {
                tracing::warn!(%error, answers, "a transaction was aborted");
                state.producer = Some(producer);
                self.shared.outbox.put_back(outputs);
            }
            TransactionFailure::Unusable(reason) => {
                self.shared.outbox.put_back(outputs);
                self.give_up(state, producer, (reason, answers));
            }
            TransactionFailure::OutcomeUnknown(reason) => {
                state.unsettled = outputs;
                self.give_up(state, producer, (reason, answers));
            }
            TransactionFailure::Permanent(error) => {
                self.shared.fault.raise(error);
                state.producer = Some(producer);
                self.shared.outbox.put_back(outputs);
                return;
            }
        }
        self.shared.vitals().commit_failed(Instant::now());
    }

    /// Another producer goes on, unless that helped too often.
    fn give_up(
        &self,
        state: &mut State,
        producer: TransactionalProducer,
        (reason, answers): (String, usize),
    ) {
        tracing::warn!(reason, answers, "another producer of transactions goes on");
        producer.give_up();
        state.given_up += 1;
        if state.given_up > GIVEN_UP_MAX {
            self.shared.fault.raise(StreamError::Fatal(reason));
        }
    }

    /// Tells the tasks of answers that are too large; the others are next in line again.
    fn leave_out(&self, indices: &[usize], outputs: Vec<Output>) {
        let mut rest = Vec::new();
        for (index, output) in outputs.into_iter().enumerate() {
            match &output.written {
                Some(OutputRecord { topic, .. }) if indices.contains(&index) => {
                    let topic = topic.clone();
                    self.shared.outbox.rewind(output.slot);
                    output.tell(Err(PublishError::TooLarge { topic }));
                }
                _ => rest.push(output),
            }
        }
        self.shared.outbox.put_back(rest);
    }
}

fn open(
    shared: &Arc<Shared>,
    limit: Duration,
) -> Result<TransactionalProducer, TransactionFailure> {
    let id = shared.settings.transactional_id();
    let config =
        shared.settings.transactional_config(&id).map_err(TransactionFailure::Permanent)?;
    TransactionalProducer::open(&config, id, limit)
}

fn commit(
    producer: &TransactionalProducer,
    consumer: &BaseConsumer<RebalanceContext>,
    outputs: &[Output],
) -> Result<(), TransactionFailure> {
    // The brokers check the member and its generation, not what it owns.
    let Some(group) = consumer.group_metadata().filter(|_| !consumer.assignment_lost()) else {
        return Err(TransactionFailure::Aborted(KafkaError::Canceled));
    };
    let positions = Positions { list: consumer.context().list(&Outbox::positions(outputs)), group };
    let written = outputs.iter().enumerate();
    let written = written.filter_map(|(index, output)| Some((index, output.written.as_ref()?)));
    producer.transact(written, Some(positions))
}
