//! Reading topics from a place on, in no group and committing nothing: to the ends they have at the start, or
//! for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Statistics};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::stream::broker::kafka_error::{
    code_of, configuration_error, is_forbidden, is_transient_read, log_client_error,
};
use crate::stream::broker::probe::find;
use crate::stream::error::StreamError;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// How long a poll waits; also how soon a reading thread notices that nobody listens.
pub(crate) const POLL: Duration = Duration::from_millis(100);
/// Records that may wait for their reader.
const WAITING_MAX: usize = 256;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Beginning,
    /// Behind the newest one.
    Now,
    /// At the first record that was written then or later.
    At(DateTime<Utc>),
}

/// A consumer of some topics.
pub(crate) struct Tail {
    consumer: BaseConsumer<Context>,
    topics: Vec<String>,
    /// The end of each partition that is not yet read to it, of a reader that ends.
    ends: Option<BTreeMap<i32, i64>>,
}

/// What a poll came to.
pub(crate) enum Next {
    /// A record, and the place of its topic among those that are read.
    Record(usize, Record),
    /// Nothing arrived in time.
    Nothing,
    /// Everything was read that was there at the start.
    End,
}

/// A tail that is read on a thread of its own.
#[derive(Debug)]
pub(crate) struct Followed<T> {
    items: mpsc::Receiver<Result<T, StreamError>>,
    ends: Arc<AtomicBool>,
}

/// The first offset of a partition, and the one behind the last.
#[derive(Clone, Copy)]
struct Extent {
    topic: usize,
    partition: i32,
    begin: i64,
    end: i64,
}

impl Tail {
    /// Reads one topic to the ends it has now. Blocks.
    ///
    /// # Errors
    /// When no broker answers, or the topic does not exist or may not be read.
    pub(crate) fn to_end(
        settings: &Settings,
        topic: &str,
        start: Start,
    ) -> Result<Self, StreamError> {
        let mut tail = Self::connect(settings, vec![topic.to_owned()])?;
        let mut extents = tail.extents(settings, start)?;
        extents.retain(|extent| extent.begin < extent.end);
        tail.assign(&extents)?;
        tail.ends = Some(extents.iter().map(|extent| (extent.partition, extent.end)).collect());
        Ok(tail)
    }

    /// Reads topics for ever. Blocks until it has begun.
    ///
    /// # Errors
    /// When no broker answers, or a topic does not exist or may not be read.
    pub(crate) fn endless(
        settings: &Settings,
        topics: &[String],
        start: Start,
    ) -> Result<Self, StreamError> {
        let tail = Self::connect(settings, topics.to_vec())?;
        tail.assign(&tail.extents(settings, start)?)?;
        Ok(tail)
    }

    fn connect(settings: &Settings, topics: Vec<String>) -> Result<Self, StreamError> {
        let consumer = settings.reader_config()?.create_with_context(Context);
        let consumer = consumer.map_err(|error| configuration_error(&error))?;
        Ok(Self { consumer, topics, ends: None })
    }

    /// What there is to read of every partition.
    fn extents(&self, settings: &Settings, start: Start) -> Result<Vec<Extent>, StreamError> {
        let found = find(settings, &self.topics, &CancellationToken::new())?;
        if !found.missing.is_empty() {
            return Err(StreamError::MissingTopics(format!(
                "topic {} does not exist at {}; check its name and kafka.bootstrap_servers",
                found.missing.join(" and "),
                settings.bootstrap_servers
            )));
        }
        let deadline = Instant::now() + settings.probe_timeout;
        let mut extents = Vec::new();
        for (topic, described) in found.topics.iter().enumerate() {
            let partitions = i32::try_from(described.partitions).unwrap_or(i32::MAX);
            for partition in 0..partitions {
                let (begin, end) = self.watermarks(&described.name, partition, deadline)?;
                extents.push(Extent { topic, partition, begin, end });
            }
        }
        match start {
            Start::Beginning => {}
            Start::Now => extents.iter_mut().for_each(|extent| extent.begin = extent.end),
            Start::At(time) => self.skip_to(time, &mut extents, settings.probe_timeout)?,
        }
        Ok(extents)
    }

    /// The brokers may name a partition before they know who leads it.
    fn watermarks(
        &self,
        topic: &str,
        partition: i32,
        deadline: Instant,
    ) -> Result<(i64, i64), StreamError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.fetch_watermarks(topic, partition, left) {
                Ok(watermarks) => return Ok(watermarks),
                Err(error) if Instant::now() >= deadline => return Err(unreadable(topic, &error)),
                Err(error) if is_forbidden(code_of(&error)) => {
                    return Err(unreadable(topic, &error));
                }
                Err(error) => {
                    tracing::debug!(topic, partition, %error, "a partition has no leader yet");
                    thread::sleep(POLL);
                }
            }
        }
    }

    fn skip_to(
        &self,
        time: DateTime<Utc>,
        extents: &mut [Extent],
        timeout: Duration,
    ) -> Result<(), StreamError> {
        let failed = |error: KafkaError| unreadable(&self.topics.join(" and "), &error);
        let mut asked = TopicPartitionList::new();
        for extent in extents.iter() {
            // Before 1970 there is nothing, and negative times have a meaning of their own.
            let time = Offset::Offset(time.timestamp_millis().max(0));
            let topic = &self.topics[extent.topic];
            asked.add_partition_offset(topic, extent.partition, time).map_err(failed)?;
        }
        let answered = self.consumer.offsets_for_times(asked, timeout).map_err(failed)?;
        for extent in extents {
            let found = answered.find_partition(&self.topics[extent.topic], extent.partition);
            extent.begin = match found.map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => extent.end,
            };
        }
        Ok(())
    }

    fn assign(&self, extents: &[Extent]) -> Result<(), StreamError> {
        let failed = |error: KafkaError| unreadable(&self.topics.join(" and "), &error);
        let mut list = TopicPartitionList::new();
        for extent in extents {
            let (topic, begin) = (&self.topics[extent.topic], Offset::Offset(extent.begin));
            list.add_partition_offset(topic, extent.partition, begin).map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)
    }

    /// The next record. Blocks, at most for `wait`.
    ///
    /// # Errors
    /// What does not pass by itself.
    pub(crate) fn next(&mut self, wait: Duration) -> Result<Next, StreamError> {
        if self.ends.as_ref().is_some_and(BTreeMap::is_empty) {
            return Ok(Next::End);
        }
        let (topic, record) = match self.consumer.poll(wait) {
            None => return Ok(Next::Nothing),
            Some(Ok(message)) => {
                let topic = self.topics.iter().position(|topic| topic == message.topic());
                (topic.unwrap_or_default(), Record::copy(&message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                // Behind the last record a transaction leaves a mark, which no record tells of.
                self.has_read(partition, i64::MAX)?;
                return Ok(Next::Nothing);
            }
            Some(Err(error)) if is_transient_read(code_of(&error)) => return Ok(Next::Nothing),
            Some(Err(error)) => return Err(unreadable(&self.topics.join(" and "), &error)),
        };
        let end = self.ends.as_ref().map(|ends| ends.get(&record.partition).copied());
        let is_in = end.is_none_or(|end| end.is_some_and(|end| record.offset < end));
        self.has_read(record.partition, record.offset + 1)?;
        Ok(if is_in { Next::Record(topic, record) } else { Next::Nothing })
    }

    /// Leaves a partition whose end is reached: what arrives from now on would never end.
    fn has_read(&mut self, partition: i32, position: i64) -> Result<(), StreamError> {
        let Some(ends) = &mut self.ends else { return Ok(()) };
        if ends.get(&partition).is_none_or(|end| position < *end) {
            return Ok(());
        }
        ends.remove(&partition);
        let topic = &self.topics[0];
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        self.consumer.pause(&list).map_err(|error| unreadable(topic, &error))
    }

    /// Reads on a thread of its own, for who must not block; ends when the receiver is dropped.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn follow<T: Send + 'static>(
        mut self,
        parse: impl Fn(usize, Record) -> Result<T, StreamError> + Send + 'static,
    ) -> Result<Followed<T>, StreamError> {
        let (sender, items) = mpsc::channel(WAITING_MAX);
        let ends = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ends);
        let read = move || {
            while !has_ended.load(Ordering::Acquire) {
                let item = match self.next(POLL) {
                    Ok(Next::Record(topic, record)) => parse(topic, record),
                    Ok(Next::Nothing) => continue,
                    Ok(Next::End) => return,
                    Err(error) => Err(error),
                };
                if sender.blocking_send(item).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("dogiqa-reader".to_owned()).spawn(read);
        thread.map_err(|error| StreamError::Bug(format!("no thread to read on: {error}")))?;
        Ok(Followed { items, ends })
    }
}

impl<T> Followed<T> {
    /// The next item, in the order of its partition.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<T, StreamError> {
        let next = self.items.recv().await;
        next.unwrap_or_else(|| Err(StreamError::Bug("the reading thread ended".to_owned())))
    }
}

impl<T> Drop for Followed<T> {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
    }
}

/// Reports what librdkafka says about the reader.
struct Context;

impl ClientContext for Context {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::warn!(reason, "no broker can be reached; reading goes on when one is back");
        } else {
            log_client_error(&error, reason);
        }
    }
}

impl ConsumerContext for Context {}

fn unreadable(topic: &str, error: &KafkaError) -> StreamError {
    match code_of(error) {
        code if is_forbidden(code) => {
            StreamError::Forbidden { action: format!("read topic {topic}"), code }
        }
        _ => StreamError::Unreadable { topic: topic.to_owned(), reason: error.clone() },
    }
}
