//! Reads the records of the output topics without parsing events, for readers of many of them.

use std::time::Duration;

use crate::stream::broker::topic_reader::{ReadOutcome, Start, TopicReader};
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::error::StreamError;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// Reads the output topics on the caller's thread, also that of a shadow if it is configured. Joins
/// no group and commits nothing.
pub struct OutputReader {
    reader: TopicReader,
}

/// A record of an output topic. Times are those of the record, in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputRecord {
    /// A record of the topic of events.
    Event {
        /// The event in JSON, not parsed.
        payload: Vec<u8>,
        /// Time of the record.
        timestamp_ms: Option<i64>,
    },
    /// A record of the topic of a shadow.
    ShadowEvent {
        /// The event in JSON, not parsed.
        payload: Vec<u8>,
        /// Time of the record.
        timestamp_ms: Option<i64>,
    },
    /// A dead letter.
    DeadLetter {
        /// Code of its error.
        code: String,
        /// Time of the record.
        timestamp_ms: Option<i64>,
    },
    /// A record that is no dead letter of this service, or has no value.
    Foreign {
        /// Time of the record.
        timestamp_ms: Option<i64>,
    },
}

impl std::fmt::Debug for OutputReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OutputReader").finish_non_exhaustive()
    }
}

impl OutputReader {
    /// Starts to read. Blocks until the partitions are known.
    ///
    /// # Errors
    /// Fails if librdkafka refuses the configuration, no broker answers in time, or a topic does
    /// not exist or may not be read.
    pub fn connect(settings: &Settings, start: Start) -> Result<Self, StreamError> {
        let outputs = settings.topics_with_shadow().split_off(1);
        Ok(Self { reader: TopicReader::endless(settings, &outputs, start)? })
    }

    /// Returns the next record, or `None` if none arrives within `wait`. Blocks. While no broker
    /// can be reached, none arrives; librdkafka connects again by itself.
    ///
    /// # Errors
    /// Fails if the brokers refuse to be read.
    pub fn next(&mut self, wait: Duration) -> Result<Option<OutputRecord>, StreamError> {
        match self.reader.read(wait)? {
            ReadOutcome::Record { topic: 0, record } => Ok(Some(event(record))),
            ReadOutcome::Record { topic: 1, record } => Ok(Some(dead_letter(record))),
            ReadOutcome::Record { record, .. } => Ok(Some(shadow_event(record))),
            ReadOutcome::Nothing | ReadOutcome::End => Ok(None),
        }
    }
}

fn event(record: Record) -> OutputRecord {
    let timestamp_ms = record.timestamp_ms;
    match record.payload {
        Some(payload) => OutputRecord::Event { payload, timestamp_ms },
        None => OutputRecord::Foreign { timestamp_ms },
    }
}

fn shadow_event(record: Record) -> OutputRecord {
    match event(record) {
        OutputRecord::Event { payload, timestamp_ms } => {
            OutputRecord::ShadowEvent { payload, timestamp_ms }
        }
        other => other,
    }
}

fn dead_letter(record: Record) -> OutputRecord {
    let timestamp_ms = record.timestamp_ms;
    match DeadLetter::parse(record) {
        Ok(letter) => OutputRecord::DeadLetter { code: letter.reason.code, timestamp_ms },
        Err(_) => OutputRecord::Foreign { timestamp_ms },
    }
}
