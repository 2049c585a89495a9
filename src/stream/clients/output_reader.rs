//! Reads the records of the output topics without parsing events, for readers of many of them.

use std::mem;
use std::time::{Duration, Instant};

use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::stream::broker::read_positions::ReadPositions;
use crate::stream::broker::topic_reader::{ReadOutcome, Start, TopicReader};
use crate::stream::broker::unreadable::find_unreadable;
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::error::StreamError;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// Time within which a second error starts the search for the record that cannot be read.
const REPEATED_WITHIN: Duration = Duration::from_mins(1);

/// Reads the output topics on the caller's thread, also that of a shadow if it is configured. Joins
/// no group and commits nothing.
pub struct OutputReader {
    settings: Settings,
    start: Start,
    /// `None` before the first connection and after an error.
    reader: Option<TopicReader>,
    /// The positions of the next connection after an error. `None` before the first error.
    positions: Option<ReadPositions>,
    /// Time of the latest error of a record, and the positions at it.
    unreadable: Option<(Instant, ReadPositions)>,
    /// Topic, partition and next offset of the partitions that may have failed again.
    suspects: Vec<(usize, i32, i64)>,
    /// True if the next connection skips records.
    skips: bool,
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
    /// Creates a reader that reads from `start` on. Call [`Self::connect`] next.
    pub fn new(settings: &Settings, start: Start) -> Self {
        let settings = settings.clone();
        Self {
            settings,
            start,
            reader: None,
            positions: None,
            unreadable: None,
            suspects: Vec::new(),
            skips: false,
        }
    }

    /// Connects; after an error, each partition continues with its next record. If reading failed
    /// again within a minute, the first partition whose next record cannot be read continues with
    /// new records, and this returns true. Blocks until the partitions are known.
    ///
    /// # Errors
    /// Fails if librdkafka refuses the configuration, no broker answers in time, or a topic does
    /// not exist or may not be read.
    pub fn connect(&mut self) -> Result<bool, StreamError> {
        let outputs = self.settings.topics_with_shadow().split_off(1);
        self.skip_unreadable(&outputs)?;
        let reader = match &self.positions {
            None => TopicReader::endless(&self.settings, &outputs, self.start)?,
            Some(positions) => TopicReader::resume(&self.settings, &outputs, positions)?,
        };
        self.reader = Some(reader);
        Ok(mem::take(&mut self.skips))
    }

    /// Returns the next record, or `None` if none arrives within `wait`. Blocks. While no broker
    /// can be reached, none arrives; librdkafka connects again by itself.
    ///
    /// # Errors
    /// Fails if the brokers refuse to be read. Call [`Self::connect`] to continue.
    pub fn next(&mut self, wait: Duration) -> Result<Option<OutputRecord>, StreamError> {
        let Some(reader) = &mut self.reader else {
            return Err(StreamError::Bug("the output topics are not connected".to_owned()));
        };
        let outcome = match reader.read(wait) {
            Ok(outcome) => outcome,
            Err(error) => {
                let positions = reader.positions().clone();
                self.reader = None;
                self.fail(&error, positions, Instant::now());
                return Err(error);
            }
        };
        match outcome {
            ReadOutcome::Record { topic: 0, record } => Ok(Some(event(record))),
            ReadOutcome::Record { topic: 1, record } => Ok(Some(dead_letter(record))),
            ReadOutcome::Record { record, .. } => Ok(Some(shadow_event(record))),
            ReadOutcome::Nothing | ReadOutcome::End => Ok(None),
        }
    }

    /// Sets the positions and the suspects of the next connection after an error. The error does
    /// not name the partition. A record that cannot be read fails again, without progress.
    fn fail(&mut self, error: &StreamError, positions: ReadPositions, now: Instant) {
        self.suspects.clear();
        if matches!(error, StreamError::Unreadable { .. }) {
            let before = self.unreadable.replace((now, positions.clone()));
            if let Some((at, earlier)) = before
                && now.duration_since(at) < REPEATED_WITHIN
            {
                self.suspects = positions.stuck(&earlier);
            }
        }
        self.positions = Some(positions);
    }

    /// Skips the first suspect that cannot be read. If all can, the error was transient, and
    /// nothing is skipped.
    fn skip_unreadable(&mut self, outputs: &[String]) -> Result<(), StreamError> {
        let Some(positions) = &mut self.positions else { return Ok(()) };
        if self.suspects.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for &(topic, partition, offset) in &self.suspects {
            let topic = &outputs[topic];
            list.add_partition_offset(topic, partition, Offset::Offset(offset))
                .map_err(|reason| StreamError::Unreadable { topic: topic.clone(), reason })?;
        }
        let found = find_unreadable(&self.settings, &list)?;
        self.suspects.clear();
        if let Some((topic, partition)) = found {
            tracing::warn!(
                topic,
                partition,
                "a record cannot be read; its partition continues with new records"
            );
            let topic = outputs.iter().position(|output| *output == topic).unwrap_or_default();
            positions.skip(topic, partition);
            self.skips = true;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    fn unreadable() -> StreamError {
        let reason = KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage);
        StreamError::Unreadable { topic: "image-quality".to_owned(), reason }
    }

    fn forbidden() -> StreamError {
        let code = RDKafkaErrorCode::TopicAuthorizationFailed;
        StreamError::Forbidden { action: "read topic image-quality".to_owned(), code }
    }

    #[test]
    fn only_a_second_error_within_a_minute_has_suspects_and_a_missing_permission_never_has() {
        let mut reader = OutputReader::new(&Settings::default(), Start::Now);
        let mut positions = ReadPositions::default();
        positions.set(0, 0, 5);
        let start = Instant::now();
        for (error, second, has_suspects) in [
            (unreadable(), 0, false),
            (forbidden(), 1, false),
            (unreadable(), 61, false),
            (forbidden(), 62, false),
            (unreadable(), 63, true),
            (forbidden(), 64, false),
        ] {
            reader.fail(&error, positions.clone(), start + Duration::from_secs(second));
            let suspects: &[_] = if has_suspects { &[(0, 0, 5)] } else { &[] };
            assert_eq!(reader.suspects, suspects, "after {second} s");
            assert_eq!(reader.positions.as_ref(), Some(&positions), "after {second} s");
        }
    }
}
