//! Which dead letters were sent again: a compacted topic beside theirs.
//!
//! An entry is written in the transaction that sends its letter, so both are there or neither. Its key is where
//! the letter lies and when it was written there: a dead-letter topic that was deleted and made anew has other
//! letters in the same places.

use std::collections::HashSet;
use std::time::Instant;

use chrono::{SecondsFormat, Utc};
use futures::executor::block_on;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::message::OwnedHeaders;
use tokio_util::sync::CancellationToken;

use crate::stream::broker::probe::{CREATED_SHOWS, LOOK_AGAIN, create, find};
use crate::stream::clients::topic_reader::{Next, POLL, Start, Tail};
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::dead_letters::replay::Destination;
use crate::stream::error::StreamError;
use crate::stream::output::output_record::OutputRecord;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// The letters that were sent again.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    topic: String,
    keys: HashSet<Vec<u8>>,
}

/// The ledger's topic of a dead-letter topic.
pub(crate) fn topic_of(dead_letter_topic: &str) -> String {
    format!("{dead_letter_topic}.replayed")
}

impl Ledger {
    /// Reads the ledger, and makes its topic where there is none. Blocks; not to the end on `stop`.
    ///
    /// # Errors
    /// When a topic is missing, cannot be made or cannot be read.
    pub(crate) fn open(settings: &Settings, stop: &CancellationToken) -> Result<Self, StreamError> {
        let topic = topic_of(&settings.dead_letter_topic);
        if !exists(settings, &topic)? {
            make(settings, &topic)?;
        }
        Self::read(settings, topic, stop)
    }

    /// Reads the ledger; an empty one where there is none. Blocks; not to the end on `stop`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn look(settings: &Settings, stop: &CancellationToken) -> Result<Self, StreamError> {
        let topic = topic_of(&settings.dead_letter_topic);
        if exists(settings, &topic)? {
            return Self::read(settings, topic, stop);
        }
        Ok(Self { topic, keys: HashSet::new() })
    }

    fn read(
        settings: &Settings,
        topic: String,
        stop: &CancellationToken,
    ) -> Result<Self, StreamError> {
        let mut tail = Tail::to_end(settings, &topic, Start::Beginning)?;
        let mut ledger = Self { topic, keys: HashSet::new() };
        while !stop.is_cancelled() {
            match tail.next(POLL)? {
                Next::Record(_, record) => ledger.apply(record),
                Next::Nothing => {}
                Next::End => break,
            }
        }
        Ok(ledger)
    }

    /// A null value takes an entry back, as compaction does.
    fn apply(&mut self, record: Record) {
        let Some(key) = record.key else { return };
        if record.payload.is_some() {
            self.keys.insert(key);
        } else {
            self.keys.remove(&key);
        }
    }

    pub(crate) fn holds(&self, letter: &DeadLetter) -> bool {
        self.keys.contains(&key(letter))
    }

    /// The entry of a letter that goes to a place.
    pub(crate) fn entry(&self, letter: &DeadLetter, destination: &Destination) -> OutputRecord {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let Destination { topic, partition } = destination;
        let value = serde_json::json!({"topic": topic, "partition": partition, "time": time});
        OutputRecord {
            topic: self.topic.clone(),
            partition: None,
            key: Some(key(letter)),
            payload: Some(value.to_string().into_bytes()),
            headers: OwnedHeaders::new(),
        }
    }
}

fn key(letter: &DeadLetter) -> Vec<u8> {
    let timestamp = letter.timestamp_ms.map(|time| time.to_string()).unwrap_or_default();
    format!("{}/{}/{timestamp}", letter.partition, letter.offset).into_bytes()
}

fn exists(settings: &Settings, topic: &str) -> Result<bool, StreamError> {
    let found = find(settings, &[topic.to_owned()], &CancellationToken::new())?;
    Ok(found.missing.is_empty())
}

/// Makes the topic with as many replicas as the dead letters have: losing it would send letters twice.
fn make(settings: &Settings, topic: &str) -> Result<(), StreamError> {
    let letters = std::slice::from_ref(&settings.dead_letter_topic);
    let found = find(settings, letters, &CancellationToken::new())?;
    let Some(letters) = found.topics.first() else {
        return Err(missing(&settings.dead_letter_topic));
    };
    let replicas = i32::try_from(letters.replicas).unwrap_or(-1);
    let wanted = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas));
    block_on(create(settings, &[wanted.set("cleanup.policy", "compact")]))?;
    let deadline = Instant::now() + CREATED_SHOWS;
    while !exists(settings, topic)? {
        if Instant::now() >= deadline {
            return Err(missing(topic));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn missing(topic: &str) -> StreamError {
    StreamError::MissingTopics(format!("topic {topic} does not exist"))
}

#[cfg(test)]
mod tests {
    use crate::event::Source;
    use crate::event::dead_letter::DeadLetterReason;

    use super::*;

    fn letter(offset: i64, timestamp_ms: i64) -> DeadLetter {
        let reason = DeadLetterReason {
            code: "fetch.not_found".to_owned(),
            message: String::new(),
            stage: "fetch".to_owned(),
            attempts: 1,
            time: Utc::now(),
            group: "dogiqa".to_owned(),
            version: "0.1.0".to_owned(),
            original: Source { topic: "in".to_owned(), partition: 0, offset: 7, timestamp: None },
        };
        let headers =
            crate::stream::record::headers::append(OwnedHeaders::new(), &reason.headers());
        let (key, payload, headers) = (None, Some(Vec::new()), Some(headers));
        let timestamp_ms = Some(timestamp_ms);
        DeadLetter::read(Record { partition: 2, offset, timestamp_ms, key, payload, headers })
            .unwrap()
    }

    fn record(written: OutputRecord, payload: Option<Vec<u8>>) -> Record {
        let OutputRecord { key, .. } = written;
        Record { partition: 0, offset: 0, timestamp_ms: None, key, payload, headers: None }
    }

    #[test]
    fn an_entry_stands_for_one_letter_until_it_is_taken_back() {
        let mut ledger = Ledger { topic: topic_of("dead"), ..Ledger::default() };
        let destination = Destination { topic: "in".to_owned(), partition: Some(0) };
        let sent = letter(5, 1000);
        let entry = ledger.entry(&sent, &destination);
        assert_eq!(entry.topic, "dead.replayed");
        let payload = entry.payload.clone();
        ledger.apply(record(entry.clone(), payload));
        assert!(ledger.holds(&sent));
        assert!(!ledger.holds(&letter(6, 1000)), "another place");
        assert!(!ledger.holds(&letter(5, 2000)), "the same place of a topic that was made anew");
        ledger.apply(record(entry, None));
        assert!(!ledger.holds(&sent));
    }
}
