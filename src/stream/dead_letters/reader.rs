//! Reads the dead-letter topic to its current end.

use std::fmt;

use tokio_util::sync::CancellationToken;

use crate::stream::broker::topic_reader::{READ_WAIT, ReadOutcome, Start, TopicReader};
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Reads the dead letters that the topic holds when the reader is opened.
pub struct DeadLetterReader {
    topic: TopicReader,
    foreign: u64,
}

impl DeadLetterReader {
    /// Opens the dead-letter topic of the settings. Blocks.
    ///
    /// # Errors
    /// Fails if no broker answers, the topic does not exist or it may not be read.
    pub fn open(settings: &Settings, start: Start) -> Result<Self, StreamError> {
        let topic = TopicReader::to_current_end(settings, &settings.dead_letter_topic, start)?;
        Ok(Self { topic, foreign: 0 })
    }

    /// Returns the next dead letter, or `None` at the end or after `stop`. Dead letters of one
    /// partition arrive in its order. Blocks.
    ///
    /// # Errors
    /// Fails if the topic can no longer be read.
    pub fn next(&mut self, stop: &CancellationToken) -> Result<Option<DeadLetter>, StreamError> {
        while !stop.is_cancelled() {
            let record = match self.topic.read(READ_WAIT)? {
                ReadOutcome::Record { record, .. } => record,
                ReadOutcome::Nothing => continue,
                ReadOutcome::End => return Ok(None),
            };
            match DeadLetter::parse(record) {
                Ok(dead_letter) => return Ok(Some(dead_letter)),
                Err(reason) => {
                    tracing::debug!(reason, "a record is not a dead letter of this service");
                    self.foreign += 1;
                }
            }
        }
        Ok(None)
    }

    /// Returns the number of records so far that are not dead letters of this service.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }
}

impl fmt::Debug for DeadLetterReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeadLetterReader")
            .field("foreign", &self.foreign)
            .finish_non_exhaustive()
    }
}
