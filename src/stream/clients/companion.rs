//! What stands beside a worker: writing references to its input, reading answers from its outputs.

use rdkafka::message::OwnedHeaders;

use crate::event::{ImageReference, QualityEvent};

use crate::stream::clients::topic_reader::{Followed, Start, Tail};
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::error::StreamError;
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::output::publisher::Publisher;
use crate::stream::record::delivery::Record;
use crate::stream::record::headers;
use crate::stream::settings::Settings;

/// Writes references to the input topic.
#[derive(Debug, Clone)]
pub struct ReferenceWriter {
    publisher: Publisher,
    topic: String,
}

/// A record of an output topic.
#[derive(Debug, Clone)]
pub enum Answer {
    /// An image was assessed.
    Event(Box<QualityEvent>),
    /// It could not be.
    DeadLetter(Box<DeadLetter>),
}

/// Reads the answers of output topics; joins no group, commits nothing.
#[derive(Debug)]
pub struct AnswerReader {
    answers: Followed<Answer>,
}

impl ReferenceWriter {
    /// Makes the producer.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn connect(settings: &Settings) -> Result<Self, StreamError> {
        let publisher = Publisher::open(settings)?;
        Ok(Self { publisher, topic: settings.input_topic.clone() })
    }

    /// Writes one reference under its id and waits until the brokers have it.
    ///
    /// # Errors
    /// When it is too large or the brokers refuse it.
    ///
    /// # Panics
    /// Never: a reference is plain data.
    pub async fn write(&self, reference: &ImageReference) -> Result<(), PublishError> {
        self.write_under(&reference.id, reference).await
    }

    /// Writes one reference under a key of its own and waits until the brokers have it.
    ///
    /// # Errors
    /// When it is too large or the brokers refuse it.
    ///
    /// # Panics
    /// Never: a reference is plain data.
    pub async fn write_under(
        &self,
        key: &str,
        reference: &ImageReference,
    ) -> Result<(), PublishError> {
        let payload = serde_json::to_vec(reference).expect("a reference is plain data");
        let trace = reference.trace.as_ref();
        let names: Vec<(String, String)> =
            trace.into_iter().map(|trace| ("traceparent".to_owned(), trace.header())).collect();
        let outgoing = Outgoing {
            topic: &self.topic,
            key: Some(key.as_bytes()),
            payload: &payload,
            headers: headers::append(OwnedHeaders::new(), &names),
        };
        self.publisher.publish(outgoing).await
    }
}

impl AnswerReader {
    /// Finds the partitions of both output topics and starts to read them from their beginning.
    ///
    /// # Errors
    /// See [`Self::connect_to`].
    pub fn connect(settings: &Settings) -> Result<Self, StreamError> {
        let [_, outputs @ ..] = settings.topics();
        Self::connect_to(settings, &outputs, Start::Beginning)
    }

    /// Finds the partitions of some output topics and starts to read.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, no broker tells the partitions in time, or a topic
    /// does not exist. Blocks for that long; call it off the runtime's threads where that matters.
    pub fn connect_to(
        settings: &Settings,
        topics: &[String],
        start: Start,
    ) -> Result<Self, StreamError> {
        let tail = Tail::endless(settings, topics, start)?;
        let (topics, output_topic) = (topics.to_vec(), settings.output_topic.clone());
        let parse = move |index: usize, record| {
            let topic = &topics[index];
            parse(topic, record, *topic == output_topic)
        };
        Ok(Self { answers: tail.follow(parse)? })
    }

    /// The next answer, in the order of its partition.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the brokers refuse to be read; or [`StreamError::Foreign`] for a record that is no answer
    /// of this service, behind which the next ones follow.
    pub async fn next(&mut self) -> Result<Answer, StreamError> {
        self.answers.next().await
    }
}

fn parse(topic: &str, record: Record, is_event: bool) -> Result<Answer, StreamError> {
    let place = format!("{topic}/{}@{}", record.partition, record.offset);
    let answer = if is_event {
        let event = serde_json::from_slice(record.payload.as_deref().unwrap_or_default());
        event.map(Answer::Event).map_err(|error| error.to_string())
    } else {
        DeadLetter::read(record).map(|letter| Answer::DeadLetter(Box::new(letter)))
    };
    answer.map_err(|reason| StreamError::Foreign { place, reason })
}
