//! Replays dead letters to their original topics, each once, even across interruptions.
//!
//! A replayed record and its ledger entry are one transaction. The transactional id is derived from
//! the dead-letter topic, so a second replay fences the first. The ledger is read after that, when
//! no earlier replay can still write to it.

use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::stream::dead_letters::destination::Destination;
use crate::stream::dead_letters::ledger::Ledger;
use crate::stream::dead_letters::pace::Pace;
use crate::stream::dead_letters::reader::DeadLetterReader;
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::dead_letters::replay_policy::{ReplayOutcome, ReplayPolicy, ReplayRefusal};
use crate::stream::dead_letters::request::ReplayRequest;
use crate::stream::error::StreamError;
use crate::stream::output::output_record::OutputRecord;
use crate::stream::output::publisher::DeliveryContext;
use crate::stream::output::transactional_producer::{
    STEP_TIMEOUT, TransactionFailure, TransactionalProducer,
};
use crate::stream::settings::Settings;

/// Size at which a batch is sent before it is full.
const BATCH_BYTES: usize = 16 << 20;
/// Maximum number of attempts to commit a batch. Only aborted transactions are retried.
const ATTEMPTS_MAX: u32 = 5;
/// Wait between two attempts.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// The number of dead letters by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplaySummary {
    /// Dead letters that were sent, or that a dry run would send.
    pub sent: u64,
    /// Dead letters that an earlier replay sent.
    pub already_sent: u64,
    /// Dead letters that cannot be sent.
    pub refused: u64,
    /// Records that are not dead letters of this service.
    pub foreign: u64,
}

/// Decides the outcome of each dead letter and sends nothing. Blocks, until the end or `stop`.
///
/// # Errors
/// Fails if no broker answers, or a topic cannot be read.
pub fn dry_run(
    settings: &Settings,
    request: &ReplayRequest,
    stop: &CancellationToken,
    mut on_outcome: impl FnMut(&DeadLetter, &ReplayOutcome),
) -> Result<ReplaySummary, StreamError> {
    let mut policy = ReplayPolicy::new(settings, request)?;
    let ledger = Ledger::open_existing(settings, stop)?;
    let mut reader = DeadLetterReader::open(settings, request.start)?;
    let mut summary = ReplaySummary::default();
    while summary.sent < request.dead_letters_max
        && let Some(dead_letter) = reader.next(stop)?
    {
        if (request.matches)(&dead_letter) {
            let outcome = policy.decide(&dead_letter, &ledger)?;
            summary.count(&outcome);
            on_outcome(&dead_letter, &outcome);
        }
    }
    Ok(ReplaySummary { foreign: reader.foreign(), ..summary })
}

/// Sends dead letters again, each once. Blocks, until the end or `stop`. After a stop, the current
/// batch is still sent.
///
/// # Errors
/// Fails if no broker answers, a topic cannot be read or written, or another replay began.
pub fn replay(
    settings: &Settings,
    request: &ReplayRequest,
    stop: &CancellationToken,
    on_outcome: impl FnMut(&DeadLetter, &ReplayOutcome),
) -> Result<ReplaySummary, StreamError> {
    let policy = ReplayPolicy::new(settings, request)?;
    // Opened first: the reader explains unusable brokers, the producer would only time out.
    let reader = DeadLetterReader::open(settings, request.start)?;
    let id = format!("dogiqa-replay-{}", settings.dead_letter_topic);
    let config = settings.transactional_config(&id)?;
    let producer =
        TransactionalProducer::open(&config, DeliveryContext::default(), id, STEP_TIMEOUT)
            .map_err(|failure| replay_error(failure, settings))?;
    let ledger = Ledger::open(settings, stop)?;
    let replay = Replay {
        settings,
        request,
        producer,
        policy,
        ledger,
        reader,
        pace: Pace::new(request.gap),
        summary: ReplaySummary::default(),
        on_outcome,
    };
    replay.run(stop)
}

/// A running replay.
struct Replay<'a, OnOutcome> {
    settings: &'a Settings,
    request: &'a ReplayRequest,
    producer: TransactionalProducer,
    policy: ReplayPolicy<'a>,
    ledger: Ledger,
    reader: DeadLetterReader,
    pace: Pace,
    summary: ReplaySummary,
    on_outcome: OnOutcome,
}

/// A dead letter that is about to be sent.
struct Outbound {
    dead_letter: DeadLetter,
    destination: Destination,
}

impl<OnOutcome: FnMut(&DeadLetter, &ReplayOutcome)> Replay<'_, OnOutcome> {
    fn run(mut self, stop: &CancellationToken) -> Result<ReplaySummary, StreamError> {
        loop {
            let batch = self.collect(stop)?;
            if batch.is_empty() {
                return Ok(ReplaySummary { foreign: self.reader.foreign(), ..self.summary });
            }
            self.commit(batch)?;
        }
    }

    /// Reads the dead letters of the next transaction. Returns none at the end.
    fn collect(&mut self, stop: &CancellationToken) -> Result<Vec<Outbound>, StreamError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let left = self.request.dead_letters_max.saturating_sub(self.summary.sent);
        let batch_max = self.pace.batch_len().min(usize::try_from(left).unwrap_or(usize::MAX));
        while batch.len() < batch_max && bytes < BATCH_BYTES {
            let Some(dead_letter) = self.reader.next(stop)? else { break };
            if !(self.request.matches)(&dead_letter) {
                continue;
            }
            match self.policy.decide(&dead_letter, &self.ledger)? {
                ReplayOutcome::Sent(destination) => {
                    self.pace.wait(stop);
                    bytes += dead_letter.bytes();
                    batch.push(Outbound { dead_letter, destination });
                }
                outcome => self.report(&dead_letter, &outcome),
            }
        }
        Ok(batch)
    }

    /// Sends a batch in one transaction, without the records that are too large for their topic.
    fn commit(&mut self, mut batch: Vec<Outbound>) -> Result<(), StreamError> {
        let mut attempts = 0;
        while !batch.is_empty() {
            let records: Vec<OutputRecord> =
                batch.iter().flat_map(|outbound| self.records(outbound)).collect();
            match self.producer.transact(records.iter().enumerate(), None) {
                Ok(()) => {
                    for Outbound { dead_letter, destination } in batch {
                        self.report(&dead_letter, &ReplayOutcome::Sent(destination));
                    }
                    return Ok(());
                }
                Err(TransactionFailure::TooLarge(indices)) => {
                    batch = self.refuse_too_large(batch, &indices);
                }
                Err(TransactionFailure::Aborted(reason)) => {
                    attempts += 1;
                    if attempts == ATTEMPTS_MAX {
                        let topic = batch.swap_remove(0).destination.topic;
                        return Err(StreamError::Publish { topic, reason });
                    }
                    tracing::warn!(%reason, "a transaction was aborted and is retried");
                    thread::sleep(RETRY_WAIT);
                }
                Err(failure) => return Err(replay_error(failure, self.settings)),
            }
        }
        Ok(())
    }

    /// Returns the replayed record, then its ledger entry.
    fn records(&self, outbound: &Outbound) -> [OutputRecord; 2] {
        let Outbound { dead_letter, destination } = outbound;
        let record = OutputRecord {
            topic: destination.topic.clone(),
            partition: destination.partition,
            key: dead_letter.key.clone(),
            payload: dead_letter.payload.clone(),
            headers: dead_letter.replay_headers(),
        };
        [record, self.ledger.entry(dead_letter, destination)]
    }

    /// Removes the dead letters whose records are at `indices`, two records per dead letter.
    fn refuse_too_large(&mut self, batch: Vec<Outbound>, indices: &[usize]) -> Vec<Outbound> {
        let mut rest = Vec::new();
        for (position, outbound) in batch.into_iter().enumerate() {
            if indices.iter().any(|index| index / 2 == position) {
                let outcome = ReplayOutcome::Refused(ReplayRefusal::TooLarge);
                self.report(&outbound.dead_letter, &outcome);
            } else {
                rest.push(outbound);
            }
        }
        rest
    }

    fn report(&mut self, dead_letter: &DeadLetter, outcome: &ReplayOutcome) {
        self.summary.count(outcome);
        (self.on_outcome)(dead_letter, outcome);
    }
}

impl ReplaySummary {
    fn count(&mut self, outcome: &ReplayOutcome) {
        match outcome {
            ReplayOutcome::Sent(_) => self.sent += 1,
            ReplayOutcome::AlreadySent => self.already_sent += 1,
            ReplayOutcome::Refused(_) => self.refused += 1,
        }
    }
}

/// Maps a failed transaction to the error that ends the replay.
fn replay_error(failure: TransactionFailure, settings: &Settings) -> StreamError {
    let topic = settings.dead_letter_topic.clone();
    match failure {
        TransactionFailure::Permanent(StreamError::Fenced { .. }) => {
            StreamError::Superseded { topic }
        }
        TransactionFailure::Permanent(error) => error,
        TransactionFailure::Unusable(reason) | TransactionFailure::OutcomeUnknown(reason) => {
            StreamError::Fatal(reason)
        }
        _ => StreamError::Fatal(format!("the brokers rejected the replay of {topic}")),
    }
}
