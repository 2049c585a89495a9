//! What stands beside a worker: writing references to its input, reading answers from its outputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, OwnedHeaders};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::event::{DeadLetterReason, Headers, ImageReference, QualityEvent};

use super::error::StreamError;
use super::headers;
use super::properties::explain;
use super::publisher::{Outgoing, PublishError, Publisher};
use super::settings::Settings;

/// How long a poll of the reader waits; also how soon it notices that nobody reads.
const POLL: Duration = Duration::from_millis(100);
/// Answers that may wait for their reader.
const ANSWERS_MAX: usize = 256;

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

/// A record that could not be answered with an event.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The record's key as text, or the place it came from.
    pub reference: String,
    /// Why.
    pub reason: DeadLetterReason,
    /// The record's value as it came.
    pub payload: Vec<u8>,
}

/// Reads the answers of both output topics from their beginning; joins no group, commits nothing.
#[derive(Debug)]
pub struct AnswerReader {
    answers: mpsc::Receiver<Result<Answer, StreamError>>,
    ends: Arc<AtomicBool>,
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
        let payload = serde_json::to_vec(reference).expect("a reference is plain data");
        let trace = reference.trace.as_ref();
        let names: Vec<(String, String)> =
            trace.into_iter().map(|trace| ("traceparent".to_owned(), trace.header())).collect();
        let outgoing = Outgoing {
            topic: &self.topic,
            key: Some(reference.id.as_bytes()),
            payload: &payload,
            headers: headers::append(OwnedHeaders::new(), &names),
        };
        self.publisher.publish(outgoing).await
    }
}

impl AnswerReader {
    /// Finds the partitions of the output topics and starts to read.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or no broker tells the partitions in time. Blocks
    /// for that long; call it off the runtime's threads where that matters.
    pub fn connect(settings: &Settings) -> Result<Self, StreamError> {
        let config = settings.reader_config()?;
        let consumer: BaseConsumer = config.create().map_err(|error| explain(&error))?;
        let mut list = TopicPartitionList::new();
        let [_, outputs @ ..] = settings.topics();
        for topic in &outputs {
            let metadata = consumer.fetch_metadata(Some(topic), settings.probe_timeout);
            let metadata = metadata.map_err(|error| unreadable(topic, &error))?;
            let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            for partition in partitions {
                let added = list.add_partition_offset(topic, partition.id(), Offset::Beginning);
                added.map_err(|error| unreadable(topic, &error))?;
            }
        }
        consumer.assign(&list).map_err(|error| unreadable(&outputs.join(" and "), &error))?;
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let ends = Arc::new(AtomicBool::new(false));
        let (has_ended, output_topic) = (Arc::clone(&ends), settings.output_topic.clone());
        thread::Builder::new()
            .name("dogiqa-reader".to_owned())
            .spawn(move || read(&consumer, &output_topic, &sender, &has_ended))
            .map_err(|error| StreamError::Bug(format!("no thread to read on: {error}")))?;
        Ok(Self { answers, ends })
    }

    /// The next answer, in the order of its partition.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When the brokers refuse to be read, or a record is no answer of this service.
    pub async fn next(&mut self) -> Result<Answer, StreamError> {
        let next = self.answers.recv().await;
        next.unwrap_or_else(|| Err(StreamError::Bug("the reading thread ended".to_owned())))
    }
}

impl Drop for AnswerReader {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
    }
}

fn read(
    consumer: &BaseConsumer,
    output_topic: &str,
    answers: &mpsc::Sender<Result<Answer, StreamError>>,
    has_ended: &AtomicBool,
) {
    while !has_ended.load(Ordering::Acquire) {
        let answer = match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => parse(&message, message.topic() == output_topic),
            Some(Err(error)) if is_passing(&error) => continue,
            Some(Err(error)) => Err(unreadable(output_topic, &error)),
        };
        if answers.blocking_send(answer).is_err() {
            return;
        }
    }
}

fn parse(message: &BorrowedMessage<'_>, is_event: bool) -> Result<Answer, StreamError> {
    let place = format!("{}/{}@{}", message.topic(), message.partition(), message.offset());
    let foreign = |reason: String| StreamError::Foreign { place: place.clone(), reason };
    let payload = message.payload().unwrap_or_default();
    if is_event {
        let event = serde_json::from_slice(payload).map_err(|error| foreign(error.to_string()))?;
        return Ok(Answer::Event(Box::new(event)));
    }
    let named = message.headers().map(BorrowedHeaders::detach);
    // A name that is not UTF-8 is the record's own: the reason stands behind it, unread here.
    let named = headers::read(named.as_ref())
        .map_err(|index| foreign(format!("the name of header {} is not UTF-8", index + 1)))?;
    let reason = DeadLetterReason::from_headers(&Headers::new(named));
    let reason = reason.map_err(|error| foreign(error.to_string()))?;
    let key = message.key().map(|key| String::from_utf8_lossy(key).into_owned());
    Ok(Answer::DeadLetter(Box::new(DeadLetter {
        reference: key.unwrap_or_else(|| {
            let original = &reason.original;
            format!("{}/{}@{}", original.topic, original.partition, original.offset)
        }),
        reason,
        payload: payload.to_vec(),
    })))
}

/// Whether librdkafka repairs it by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn unreadable(topic: &str, error: &KafkaError) -> StreamError {
    match error.rdkafka_error_code() {
        Some(code) if StreamError::is_forbidden(code) => {
            StreamError::Forbidden { action: format!("read topic {topic}"), code }
        }
        _ => StreamError::Fatal(format!("topic {topic} cannot be read: {error}")),
    }
}
