//! Reads answers back from the output topics.

use crate::event::QualityEvent;
use crate::stream::broker::topic_reader::{ReaderThread, Start, TopicReader};
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::error::StreamError;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// The answer to one reference, as read from an output topic.
#[derive(Debug, Clone)]
pub enum WorkerAnswer {
    /// The image was assessed.
    Event(Box<QualityEvent>),
    /// The image could not be assessed.
    DeadLetter(Box<DeadLetter>),
}

/// Reads answers from output topics. Joins no group and commits nothing.
#[derive(Debug)]
pub struct AnswerReader {
    answers: ReaderThread<WorkerAnswer>,
}

impl AnswerReader {
    /// Starts to read both output topics from their beginning.
    ///
    /// # Errors
    /// Fails like [`Self::connect_to`].
    pub fn connect(settings: &Settings) -> Result<Self, StreamError> {
        let [_, outputs @ ..] = settings.topics();
        Self::connect_to(settings, &outputs, Start::Beginning)
    }

    /// Starts to read the given output topics. Blocks until their partitions are known, so call it
    /// off the async runtime's threads.
    ///
    /// # Errors
    /// Fails if librdkafka refuses the configuration, no broker answers in time, or a topic does
    /// not exist.
    pub fn connect_to(
        settings: &Settings,
        topics: &[String],
        start: Start,
    ) -> Result<Self, StreamError> {
        let reader = TopicReader::endless(settings, topics, start)?;
        let (topics, event_topic) = (topics.to_vec(), settings.output_topic.clone());
        let parse = move |topic: usize, record: Record| {
            let topic = &topics[topic];
            let location = format!("{topic}/{}@{}", record.partition, record.offset);
            let parsed = if *topic == event_topic {
                parse_event(&record)
            } else {
                parse_dead_letter(record)
            };
            parsed.map_err(|reason| StreamError::Foreign { location, reason })
        };
        Ok(Self { answers: reader.spawn(parse)? })
    }

    /// Returns the next answer. Answers of one partition arrive in its order.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Fails if the brokers refuse to be read. Fails with [`StreamError::Foreign`] for a record
    /// that is not an answer of this service; the next call reads the record after it.
    pub async fn next(&mut self) -> Result<WorkerAnswer, StreamError> {
        self.answers.next().await
    }
}

fn parse_event(record: &Record) -> Result<WorkerAnswer, String> {
    let event = serde_json::from_slice(record.payload.as_deref().unwrap_or_default());
    event.map(WorkerAnswer::Event).map_err(|error| error.to_string())
}

fn parse_dead_letter(record: Record) -> Result<WorkerAnswer, String> {
    DeadLetter::parse(record).map(|dead_letter| WorkerAnswer::DeadLetter(Box::new(dead_letter)))
}
