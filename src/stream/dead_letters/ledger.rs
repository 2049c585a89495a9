//! Remembers which dead letters were replayed, in a compacted topic next to theirs.
//!
//! An entry is written in the same transaction as its replayed record, so both exist or neither.
//! Its key is the partition, offset and timestamp of the dead letter. The timestamp is part of the
//! key because a recreated dead-letter topic has other records at the same offsets.

use std::collections::HashSet;
use std::thread;
use std::time::Instant;

use chrono::{SecondsFormat, Utc};
use futures::executor::block_on;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::message::OwnedHeaders;
use tokio_util::sync::CancellationToken;

use crate::stream::broker::probe::describe_topics;
use crate::stream::broker::topic_reader::{READ_WAIT, ReadOutcome, Start, TopicReader};
use crate::stream::broker::topics::{VISIBLE_CHECK_INTERVAL, VISIBLE_TIMEOUT, create_topics};
use crate::stream::dead_letters::destination::Destination;
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::error::StreamError;
use crate::stream::output::output_record::OutputRecord;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// The dead letters that were replayed.
#[derive(Debug)]
pub(crate) struct Ledger {
    topic: String,
    keys: HashSet<Vec<u8>>,
}

/// Returns the name of the ledger's topic.
pub(crate) fn ledger_topic(dead_letter_topic: &str) -> String {
    format!("{dead_letter_topic}.replayed")
}

impl Ledger {
    /// Reads the ledger, and creates its topic if it does not exist. Blocks until all entries are
    /// read or `stop` is cancelled.
    ///
    /// # Errors
    /// Fails if the dead-letter topic does not exist, or the ledger's topic cannot be created or
    /// read.
    pub(crate) fn open(settings: &Settings, stop: &CancellationToken) -> Result<Self, StreamError> {
        let topic = ledger_topic(&settings.dead_letter_topic);
        if !topic_exists(settings, &topic)? {
            create_ledger_topic(settings, &topic)?;
        }
        Self::read(settings, topic, stop)
    }

    /// Reads the ledger without creating its topic; the ledger is empty if there is none. Blocks
    /// until all entries are read or `stop` is cancelled.
    ///
    /// # Errors
    /// Fails if the topic cannot be read.
    pub(crate) fn open_existing(
        settings: &Settings,
        stop: &CancellationToken,
    ) -> Result<Self, StreamError> {
        let topic = ledger_topic(&settings.dead_letter_topic);
        if topic_exists(settings, &topic)? {
            return Self::read(settings, topic, stop);
        }
        Ok(Self::empty(topic))
    }

    fn empty(topic: String) -> Self {
        Self { topic, keys: HashSet::new() }
    }

    fn read(
        settings: &Settings,
        topic: String,
        stop: &CancellationToken,
    ) -> Result<Self, StreamError> {
        let mut reader = TopicReader::to_current_end(settings, &topic, Start::Beginning)?;
        let mut ledger = Self::empty(topic);
        while !stop.is_cancelled() {
            match reader.read(READ_WAIT)? {
                ReadOutcome::Record { record, .. } => ledger.apply(record),
                ReadOutcome::Nothing => {}
                ReadOutcome::End => break,
            }
        }
        Ok(ledger)
    }

    /// Applies one record. A null value deletes its entry, as compaction does.
    fn apply(&mut self, record: Record) {
        let Some(key) = record.key else { return };
        if record.payload.is_some() {
            self.keys.insert(key);
        } else {
            self.keys.remove(&key);
        }
    }

    /// Returns true if the dead letter was replayed.
    pub(crate) fn contains(&self, dead_letter: &DeadLetter) -> bool {
        self.keys.contains(&key(dead_letter))
    }

    /// Returns the record that enters a dead letter into the ledger.
    pub(crate) fn entry(
        &self,
        dead_letter: &DeadLetter,
        destination: &Destination,
    ) -> OutputRecord {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let Destination { topic, partition } = destination;
        let value = serde_json::json!({"topic": topic, "partition": partition, "time": time});
        OutputRecord {
            topic: self.topic.clone(),
            partition: None,
            key: Some(key(dead_letter)),
            payload: Some(value.to_string().into_bytes()),
            headers: OwnedHeaders::new(),
        }
    }
}

fn key(dead_letter: &DeadLetter) -> Vec<u8> {
    let timestamp = dead_letter.timestamp_ms.map(|time| time.to_string()).unwrap_or_default();
    format!("{}/{}/{timestamp}", dead_letter.partition, dead_letter.offset).into_bytes()
}

fn topic_exists(settings: &Settings, topic: &str) -> Result<bool, StreamError> {
    let report = describe_topics(settings, &[topic.to_owned()], &CancellationToken::new())?;
    Ok(report.missing.is_empty())
}

/// Creates the ledger's topic with as many replicas as the dead-letter topic has, because a lost
/// ledger would replay dead letters twice. Blocks until the topic is visible.
fn create_ledger_topic(settings: &Settings, topic: &str) -> Result<(), StreamError> {
    let dead_letter_topic = std::slice::from_ref(&settings.dead_letter_topic);
    let report = describe_topics(settings, dead_letter_topic, &CancellationToken::new())?;
    let Some(dead_letters) = report.topics.first() else {
        return Err(missing_topic(&settings.dead_letter_topic));
    };
    let replicas = i32::try_from(dead_letters.replicas).unwrap_or(-1);
    let new_topic = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas));
    block_on(create_topics(settings, &[new_topic.set("cleanup.policy", "compact")]))?;
    let deadline = Instant::now() + VISIBLE_TIMEOUT;
    while !topic_exists(settings, topic)? {
        if Instant::now() >= deadline {
            return Err(missing_topic(topic));
        }
        thread::sleep(VISIBLE_CHECK_INTERVAL);
    }
    Ok(())
}

fn missing_topic(topic: &str) -> StreamError {
    StreamError::MissingTopics(format!("topic {topic} does not exist"))
}

#[cfg(test)]
mod tests {
    use crate::event::Source;
    use crate::event::dead_letter::DeadLetterReason;
    use crate::stream::record::headers;

    use super::*;

    fn dead_letter(offset: i64, timestamp_ms: i64) -> DeadLetter {
        let reason = DeadLetterReason {
            code: "fetch.not_found".to_owned(),
            message: String::new(),
            stage: "fetch".to_owned(),
            attempts: 1,
            time: Utc::now(),
            group: "dogiqa".to_owned(),
            version: "0.1.0".to_owned(),
            original: Source {
                topic: "in".to_owned(),
                partition: 0,
                offset: 7,
                timestamp: None,
                index: None,
            },
        };
        let headers = headers::append(OwnedHeaders::new(), &reason.headers());
        let (key, payload, headers) = (None, Some(Vec::new()), Some(headers));
        let timestamp_ms = Some(timestamp_ms);
        DeadLetter::parse(Record { partition: 2, offset, timestamp_ms, key, payload, headers })
            .unwrap()
    }

    fn record(written: OutputRecord, payload: Option<Vec<u8>>) -> Record {
        let OutputRecord { key, .. } = written;
        Record { partition: 0, offset: 0, timestamp_ms: None, key, payload, headers: None }
    }

    #[test]
    fn an_entry_covers_one_dead_letter_until_it_is_deleted() {
        let mut ledger = Ledger::empty(ledger_topic("dead"));
        let destination = Destination { topic: "in".to_owned(), partition: Some(0) };
        let sent = dead_letter(5, 1000);
        let entry = ledger.entry(&sent, &destination);
        assert_eq!(entry.topic, "dead.replayed");
        let payload = entry.payload.clone();
        ledger.apply(record(entry.clone(), payload));
        assert!(ledger.contains(&sent));
        assert!(!ledger.contains(&dead_letter(6, 1000)), "another offset");
        assert!(!ledger.contains(&dead_letter(5, 2000)), "the same offset of a recreated topic");
        ledger.apply(record(entry, None));
        assert!(!ledger.contains(&sent));
    }
}
