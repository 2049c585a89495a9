//! Dead letters, sent again to where they came from: each once, whatever is interrupted.
//!
//! A letter and its entry in the ledger are one transaction, and the ledger is read only when no earlier replay
//! can write any more: the producer's name is that of the topic, so that a second replay puts the first one out.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::stream::broker::probe::find;
use crate::stream::clients::topic_reader::{POLL, Start};
use crate::stream::dead_letters::ledger::{self, Ledger};
use crate::stream::dead_letters::record::{DeadLetter, DeadLetters};
use crate::stream::error::StreamError;
use crate::stream::output::output_record::OutputRecord;
use crate::stream::output::transactional_producer::{
    STEP_TIMEOUT, TransactionFailure, TransactionalProducer,
};
use crate::stream::settings::Settings;

/// Letters in one transaction.
const BATCH_LETTERS: usize = 500;
/// About as many bytes in one.
const BATCH_BYTES: usize = 16 << 20;
/// How often a transaction is tried that was aborted for a reason that may pass.
const ATTEMPTS_MAX: u32 = 5;
/// Wait between these attempts.
const AGAIN: Duration = Duration::from_secs(1);
/// Topics that are remembered.
const TOPICS_MAX: usize = 1000;
/// Longest name of a topic.
const TOPIC_CHARS_MAX: usize = 249;

/// Which dead letters are sent again, and where to.
pub struct ReplayRequest {
    /// Where reading begins.
    pub start: Start,
    /// Which letters are meant.
    pub matches: Box<dyn Fn(&DeadLetter) -> bool + Send>,
    /// The topic they go to, instead of where each came from.
    pub to: Option<String>,
    /// Whether letters are sent that were sent before.
    pub again: bool,
    /// Most letters that are sent.
    pub letters_max: u64,
    /// The least time from one letter to the next.
    pub gap: Option<Duration>,
}

/// Where a letter goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The topic.
    pub topic: String,
    /// The partition it came from, where there is one of that number; else it follows from the key.
    pub partition: Option<i32>,
}

/// What becomes of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is sent again.
    Sent(Destination),
    /// It was sent before.
    Already,
    /// It cannot be sent.
    Refused(Refusal),
}

/// Why a letter cannot be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would go where answers go, or where Kafka keeps its own records.
    #[error("its topic takes answers or is Kafka's own")]
    Protected,
    /// The topic it came from is gone.
    #[error("its topic does not exist, or may not be described")]
    MissingTopic,
    /// A part of the record did not fit into the dead letter.
    #[error("a part of the record did not fit into the dead letter; send it again from its source")]
    Incomplete,
    /// It is larger than the topic it would go to takes.
    #[error("it is larger than its topic takes")]
    TooLarge,
}

/// How many letters met which fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplaySummary {
    /// Sent again, or to be sent.
    pub sent: u64,
    /// Sent before.
    pub already: u64,
    /// Refused.
    pub refused: u64,
    /// Records that are no dead letters of this service.
    pub foreign: u64,
}

impl std::fmt::Debug for ReplayRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { start, to, again, letters_max, gap, .. } = self;
        formatter
            .debug_struct("ReplayRequest")
            .field("start", start)
            .field("to", to)
            .field("again", again)
            .field("letters_max", letters_max)
            .field("gap", gap)
            .finish_non_exhaustive()
    }
}

/// Finds what would be sent and sends nothing. Blocks, until the end or `stop`.
///
/// # Errors
/// When no broker answers, or a topic cannot be read.
pub fn dry_run(
    settings: &Settings,
    request: &ReplayRequest,
    stop: &CancellationToken,
    mut told: impl FnMut(&DeadLetter, &Fate),
) -> Result<ReplaySummary, StreamError> {
    let mut judge = Judge::new(settings, request)?;
    judge.ledger = Ledger::look(settings, stop)?;
    let mut summary = ReplaySummary::default();
    let mut letters = DeadLetters::open(settings, request.start)?;
    while summary.sent < request.letters_max
        && let Some(letter) = letters.next(stop)?
    {
        if (request.matches)(&letter) {
            let fate = judge.fate(&letter)?;
            summary.count(&fate);
            told(&letter, &fate);
        }
    }
    Ok(ReplaySummary { foreign: letters.foreign(), ..summary })
}

/// Sends dead letters again, each once. Blocks, until the end or `stop`: then what was begun is finished.
///
/// # Errors
/// When no broker answers, a topic cannot be read or written, or another replay began.
pub fn replay(
    settings: &Settings,
    request: &ReplayRequest,
    stop: &CancellationToken,
    told: impl FnMut(&DeadLetter, &Fate),
) -> Result<ReplaySummary, StreamError> {
    let mut judge = Judge::new(settings, request)?;
    // Says what is wrong with the brokers before a producer waits for them.
    let letters = DeadLetters::open(settings, request.start)?;
    let id = format!("dogiqa-replay-{}", settings.dead_letter_topic);
    let config = settings.transactional_config(&id)?;
    let producer = TransactionalProducer::open(&config, id, STEP_TIMEOUT);
    let producer = producer.map_err(|failure| end(failure, settings))?;
    judge.ledger = Ledger::open(settings, stop)?;
    let pace = Pace { gap: request.gap, next: Instant::now() };
    let summary = ReplaySummary::default();
    let replay = Replay { producer, judge, letters, pace, summary, told };
    replay.run(stop)
}

/// Decides what becomes of letters.
struct Judge<'a> {
    settings: &'a Settings,
    request: &'a ReplayRequest,
    ledger: Ledger,
    /// Partitions of the topics that letters came from; none for a topic that is not there.
    partitions: BTreeMap<String, Option<usize>>,
}

impl<'a> Judge<'a> {
    fn new(settings: &'a Settings, request: &'a ReplayRequest) -> Result<Self, StreamError> {
        let (ledger, partitions) = (Ledger::default(), BTreeMap::new());
        let judge = Self { settings, request, ledger, partitions };
        if let Some(to) = &request.to
            && (judge.is_protected(to) || !is_topic(to))
        {
            return Err(StreamError::Configuration(format!(
                "dead letters cannot be sent to {to:?}: it is no name, or a topic for answers; name the topic that \
                 workers read"
            )));
        }
        Ok(judge)
    }

    fn fate(&mut self, letter: &DeadLetter) -> Result<Fate, StreamError> {
        if !self.request.again && self.ledger.holds(letter) {
            return Ok(Fate::Already);
        }
        if letter.left_out.is_some() {
            return Ok(Fate::Refused(Refusal::Incomplete));
        }
        let original = &letter.reason.original;
        let topic = self.request.to.as_ref().unwrap_or(&original.topic);
        if self.is_protected(topic) {
            return Ok(Fate::Refused(Refusal::Protected));
        }
        let Some(partitions) = self.partitions(topic)? else {
            return Ok(Fate::Refused(Refusal::MissingTopic));
        };
        let there = usize::try_from(original.partition).is_ok_and(|number| number < partitions);
        let partition = (there && self.request.to.is_none()).then_some(original.partition);
        Ok(Fate::Sent(Destination { topic: topic.clone(), partition }))
    }

    /// The name in a letter is whoever's wrote it: it must not lead to a topic of answers.
    fn is_protected(&self, topic: &str) -> bool {
        let [_, events, dead_letters] = self.settings.topics();
        topic == events
            || topic == dead_letters
            || topic == ledger::topic_of(&dead_letters)
            || topic.starts_with("__")
    }

    fn partitions(&mut self, topic: &str) -> Result<Option<usize>, StreamError> {
        if !is_topic(topic) {
            return Ok(None);
        }
        if let Some(known) = self.partitions.get(topic) {
            return Ok(*known);
        }
        let found = match find(self.settings, &[topic.to_owned()], &CancellationToken::new()) {
            Ok(found) => found.topics.first().map(|topic| topic.partitions),
            Err(StreamError::Forbidden { .. } | StreamError::MissingTopics(_)) => None,
            Err(error) => return Err(error),
        };
        // Whoever may write to the topic may invent names without end.
        if self.partitions.len() >= TOPICS_MAX {
            self.partitions.clear();
        }
        self.partitions.insert(topic.to_owned(), found);
        Ok(found)
    }
}

/// A replay under way.
struct Replay<'a, Told> {
    producer: TransactionalProducer,
    judge: Judge<'a>,
    letters: DeadLetters,
    pace: Pace,
    summary: ReplaySummary,
    told: Told,
}

impl<Told: FnMut(&DeadLetter, &Fate)> Replay<'_, Told> {
    fn run(mut self, stop: &CancellationToken) -> Result<ReplaySummary, StreamError> {
        loop {
            let batch = self.collect(stop)?;
            if batch.is_empty() {
                return Ok(ReplaySummary { foreign: self.letters.foreign(), ..self.summary });
            }
            self.commit(batch)?;
        }
    }

    /// Letters for the next transaction; none at the end.
    fn collect(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<Vec<(DeadLetter, Destination)>, StreamError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let left = self.judge.request.letters_max.saturating_sub(self.summary.sent);
        let most = self.pace.batch().min(usize::try_from(left).unwrap_or(usize::MAX));
        while batch.len() < most && bytes < BATCH_BYTES {
            let Some(letter) = self.letters.next(stop)? else { break };
            if !(self.judge.request.matches)(&letter) {
                continue;
            }
            match self.judge.fate(&letter)? {
                Fate::Sent(destination) => {
                    self.pace.wait(stop);
                    bytes += letter.bytes();
                    batch.push((letter, destination));
                }
                fate => self.tell(&letter, &fate),
            }
        }
        Ok(batch)
    }

    /// Sends a batch; what is too large for its topic is left out.
    fn commit(&mut self, mut batch: Vec<(DeadLetter, Destination)>) -> Result<(), StreamError> {
        let mut attempts = 0;
        while !batch.is_empty() {
            let records: Vec<OutputRecord> =
                batch.iter().flat_map(|(letter, to)| self.records(letter, to)).collect();
            match self.producer.transact(records.iter().enumerate(), None) {
                Ok(()) => {
                    for (letter, destination) in batch {
                        self.tell(&letter, &Fate::Sent(destination));
                    }
                    return Ok(());
                }
                Err(TransactionFailure::TooLarge(indices)) => {
                    let (large, rest): (Vec<_>, Vec<_>) = batch
                        .into_iter()
                        .enumerate()
                        .partition(|(place, _)| indices.iter().any(|index| index / 2 == *place));
                    for (_, (letter, _)) in large {
                        self.tell(&letter, &Fate::Refused(Refusal::TooLarge));
                    }
                    batch = rest.into_iter().map(|(_, item)| item).collect();
                }
                Err(TransactionFailure::Aborted(reason)) => {
                    attempts += 1;
                    if attempts == ATTEMPTS_MAX {
                        let topic = batch.swap_remove(0).1.topic;
                        return Err(StreamError::Publish { topic, reason });
                    }
                    tracing::warn!(%reason, "a transaction was aborted and is tried again");
                    thread::sleep(AGAIN);
                }
                Err(failure) => return Err(end(failure, self.judge.settings)),
            }
        }
        Ok(())
    }

    /// The record as it came, and its entry in the ledger.
    fn records(&self, letter: &DeadLetter, destination: &Destination) -> [OutputRecord; 2] {
        let record = OutputRecord {
            topic: destination.topic.clone(),
            partition: destination.partition,
            key: letter.key.clone(),
            payload: letter.payload.clone(),
            headers: letter.replay_headers(),
        };
        [record, self.judge.ledger.entry(letter, destination)]
    }

    fn tell(&mut self, letter: &DeadLetter, fate: &Fate) {
        self.summary.count(fate);
        (self.told)(letter, fate);
    }
}

impl ReplaySummary {
    fn count(&mut self, fate: &Fate) {
        match fate {
            Fate::Sent(_) => self.sent += 1,
            Fate::Already => self.already += 1,
            Fate::Refused(_) => self.refused += 1,
        }
    }
}

/// What ends a replay; what it had sent stays sent.
fn end(failure: TransactionFailure, settings: &Settings) -> StreamError {
    let topic = settings.dead_letter_topic.clone();
    match failure {
        TransactionFailure::Permanent(StreamError::Fenced { .. }) => {
            StreamError::Superseded { topic }
        }
        TransactionFailure::Permanent(error) => error,
        TransactionFailure::Unusable(reason) | TransactionFailure::OutcomeUnknown(reason) => {
            StreamError::Fatal(reason)
        }
        _ => StreamError::Fatal(format!("the brokers do not take the replay of {topic}")),
    }
}

/// How fast letters are sent.
struct Pace {
    gap: Option<Duration>,
    next: Instant,
}

impl Pace {
    /// Letters of a transaction: those of a second where there is a limit.
    fn batch(&self) -> usize {
        let of_a_second = |gap: Duration| 1_000_000_000 / gap.as_nanos().max(1);
        let letters = self.gap.map_or(BATCH_LETTERS as u128, of_a_second);
        usize::try_from(letters).unwrap_or(BATCH_LETTERS).clamp(1, BATCH_LETTERS)
    }

    /// Waits for the next letter's turn, or for `stop`.
    fn wait(&mut self, stop: &CancellationToken) {
        let Some(gap) = self.gap else { return };
        while !stop.is_cancelled() {
            let left = self.next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(POLL));
        }
        // What was late is not made up for.
        self.next = self.next.max(Instant::now()) + gap;
    }
}

/// Whether Kafka takes this as a topic's name.
fn is_topic(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= TOPIC_CHARS_MAX && name.chars().all(is_legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(to: Option<&str>) -> ReplayRequest {
        ReplayRequest {
            start: Start::Beginning,
            matches: Box::new(|_| true),
            to: to.map(str::to_owned),
            again: false,
            letters_max: u64::MAX,
            gap: None,
        }
    }

    #[test]
    fn letters_never_go_where_answers_go() {
        let settings = Settings::default();
        for topic in [
            "image-quality",
            "image-quality-dead-letters",
            "image-quality-dead-letters.replayed",
            "__consumer_offsets",
            "no topic",
            "a\0b",
            "",
        ] {
            let request = request(Some(topic));
            let error = Judge::new(&settings, &request).err().unwrap();
            assert!(error.to_string().contains("cannot be sent to"), "{topic}: {error}");
        }
        assert!(Judge::new(&settings, &request(Some("image-references"))).is_ok());
    }

    #[test]
    fn a_slow_pace_makes_small_transactions() {
        let batch = |gap| Pace { gap, next: Instant::now() }.batch();
        assert_eq!(batch(None), BATCH_LETTERS);
        assert_eq!(batch(Some(Duration::from_secs(5))), 1);
        assert_eq!(batch(Some(Duration::from_millis(25))), 40);
        assert_eq!(batch(Some(Duration::from_nanos(1))), BATCH_LETTERS);
    }
}
