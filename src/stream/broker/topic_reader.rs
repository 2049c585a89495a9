//! Reads topics outside of any consumer group, commits nothing: to their current end, or
//! indefinitely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Statistics};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::stream::broker::client_log::{log_client_error, log_client_line};
use crate::stream::broker::kafka_error::{
    code_of, configuration_error, is_forbidden, is_transient_read,
};
use crate::stream::broker::probe::describe_topics;
use crate::stream::broker::read_positions::ReadPositions;
use crate::stream::error::StreamError;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// Time that a read waits for a record. A reading thread notices within this time that its receiver
/// was dropped.
pub(crate) const READ_WAIT: Duration = Duration::from_millis(100);
/// Wait before a partition without a leader is queried again.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of records that wait for the receiver of a reading thread.
const QUEUED_MAX: usize = 256;

/// The position from which topics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that is retained.
    Beginning,
    /// The first record that is written from now on.
    Now,
    /// The first record that was written at this time or later.
    At(DateTime<Utc>),
}

/// A consumer of one or more topics.
pub(crate) struct TopicReader {
    consumer: BaseConsumer<ReaderContext>,
    topics: Vec<String>,
    /// The end offset of each partition that is not read to its end; `None` to read indefinitely.
    ends: Option<BTreeMap<i32, i64>>,
    positions: ReadPositions,
}

/// The result of one read.
pub(crate) enum ReadOutcome {
    Record {
        /// Index of the record's topic among the topics of the reader.
        topic: usize,
        record: Record,
    },
    /// No record arrived in time.
    Nothing,
    /// All records up to the end offsets are read.
    End,
}

/// Reads on its own thread until it is dropped.
#[derive(Debug)]
pub(crate) struct ReaderThread<T> {
    items: mpsc::Receiver<Result<T, StreamError>>,
    is_stopped: Arc<AtomicBool>,
}

/// The range of offsets to read from one partition.
#[derive(Clone, Copy)]
struct OffsetRange {
    /// Index of the topic.
    topic: usize,
    partition: i32,
    begin: i64,
    /// One past the last offset.
    end: i64,
}

impl TopicReader {
    /// Opens a reader that reads one topic to its current end. Blocks.
    ///
    /// # Errors
    /// Fails if no broker answers, the topic does not exist or it may not be read.
    pub(crate) fn to_current_end(
        settings: &Settings,
        topic: &str,
        start: Start,
    ) -> Result<Self, StreamError> {
        let mut reader = Self::connect(settings, vec![topic.to_owned()])?;
        let mut ranges = reader.offset_ranges(settings, start)?;
        ranges.retain(|range| range.begin < range.end);
        reader.assign(&ranges)?;
        reader.ends = Some(ranges.iter().map(|range| (range.partition, range.end)).collect());
        Ok(reader)
    }

    /// Opens a reader that reads topics indefinitely. Blocks until the partitions are assigned.
    ///
    /// # Errors
    /// Fails if no broker answers, a topic does not exist or may not be read.
    pub(crate) fn endless(
        settings: &Settings,
        topics: &[String],
        start: Start,
    ) -> Result<Self, StreamError> {
        let mut reader = Self::connect(settings, topics.to_vec())?;
        reader.assign(&reader.offset_ranges(settings, start)?)?;
        Ok(reader)
    }

    /// Opens a reader that continues at the positions of another reader of the same topics, and
    /// reads indefinitely. It reads partitions that were added since from their beginning. Blocks
    /// until the partitions are assigned.
    ///
    /// # Errors
    /// Fails like [`Self::endless`].
    pub(crate) fn resume(
        settings: &Settings,
        topics: &[String],
        positions: &ReadPositions,
    ) -> Result<Self, StreamError> {
        let mut reader = Self::connect(settings, topics.to_vec())?;
        let mut ranges = reader.offset_ranges(settings, Start::Beginning)?;
        for range in &mut ranges {
            let limits = (range.begin, range.end);
            range.begin = positions.offset(range.topic, range.partition, limits);
        }
        reader.assign(&ranges)?;
        Ok(reader)
    }

    /// Returns the next record of each partition.
    pub(crate) fn positions(&self) -> &ReadPositions {
        &self.positions
    }

    fn connect(settings: &Settings, topics: Vec<String>) -> Result<Self, StreamError> {
        let consumer = settings
            .reader_config()?
            .create_with_context(ReaderContext)
            .map_err(|error| configuration_error(&error))?;
        Ok(Self { consumer, topics, ends: None, positions: ReadPositions::default() })
    }

    fn offset_ranges(
        &self,
        settings: &Settings,
        start: Start,
    ) -> Result<Vec<OffsetRange>, StreamError> {
        let report = describe_topics(settings, &self.topics, &CancellationToken::new())?;
        if !report.missing.is_empty() {
            return Err(StreamError::MissingTopics(format!(
                "topic {} does not exist at {}; check its name and kafka.bootstrap_servers",
                report.missing.join(" and "),
                settings.bootstrap_servers
            )));
        }
        let deadline = Instant::now() + settings.probe_timeout;
        let mut ranges = Vec::new();
        for (topic, described) in report.topics.iter().enumerate() {
            let partitions = i32::try_from(described.partitions).unwrap_or(i32::MAX);
            for partition in 0..partitions {
                let (begin, end) = self.watermarks(&described.name, partition, deadline)?;
                ranges.push(OffsetRange { topic, partition, begin, end });
            }
        }
        match start {
            Start::Beginning => {}
            Start::Now => ranges.iter_mut().for_each(|range| range.begin = range.end),
            Start::At(time) => self.skip_to(time, &mut ranges, settings.probe_timeout)?,
        }
        Ok(ranges)
    }

    /// Returns the first offset of a partition and the one past its last. Retries until the
    /// deadline, because a new partition may have no leader yet.
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
                    thread::sleep(LEADER_CHECK_INTERVAL);
                }
            }
        }
    }

    /// Moves the begin of each range to the first record that was written at `time` or later.
    fn skip_to(
        &self,
        time: DateTime<Utc>,
        ranges: &mut [OffsetRange],
        timeout: Duration,
    ) -> Result<(), StreamError> {
        let failed = |error: KafkaError| unreadable(&self.topics.join(" and "), &error);
        let mut times = TopicPartitionList::new();
        for range in ranges.iter() {
            // Kafka gives negative timestamps special meanings; records have none before 1970.
            let time = Offset::Offset(time.timestamp_millis().max(0));
            let topic = &self.topics[range.topic];
            times.add_partition_offset(topic, range.partition, time).map_err(failed)?;
        }
        let offsets = self.consumer.offsets_for_times(times, timeout).map_err(failed)?;
        for range in ranges {
            let found = offsets.find_partition(&self.topics[range.topic], range.partition);
            range.begin = match found.map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => range.end,
            };
        }
        Ok(())
    }

    fn assign(&mut self, ranges: &[OffsetRange]) -> Result<(), StreamError> {
        let failed = |error: KafkaError| unreadable(&self.topics.join(" and "), &error);
        let mut list = TopicPartitionList::new();
        for range in ranges {
            let (topic, begin) = (&self.topics[range.topic], Offset::Offset(range.begin));
            list.add_partition_offset(topic, range.partition, begin).map_err(failed)?;
            self.positions.set(range.topic, range.partition, range.begin);
        }
        self.consumer.assign(&list).map_err(failed)
    }

    /// Reads the next record. Blocks, at most for `wait`.
    ///
    /// # Errors
    /// Fails on errors from which librdkafka does not recover by itself.
    pub(crate) fn read(&mut self, wait: Duration) -> Result<ReadOutcome, StreamError> {
        if self.ends.as_ref().is_some_and(BTreeMap::is_empty) {
            return Ok(ReadOutcome::End);
        }
        let (topic, record) = match self.consumer.poll(wait) {
            None => return Ok(ReadOutcome::Nothing),
            Some(Ok(message)) => {
                let topic = self.topics.iter().position(|topic| topic == message.topic());
                let topic = topic.unwrap_or_default();
                self.positions.set(topic, message.partition(), message.offset() + 1);
                (topic, Record::copy(&message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                // A transaction marker may follow the last record. No record reports its offset.
                self.finish_if_at_end(partition, i64::MAX)?;
                return Ok(ReadOutcome::Nothing);
            }
            Some(Err(error)) if is_transient_read(code_of(&error)) => {
                return Ok(ReadOutcome::Nothing);
            }
            Some(Err(error)) => return Err(unreadable(&self.topics.join(" and "), &error)),
        };
        let is_in_range = self
            .ends
            .as_ref()
            .is_none_or(|ends| ends.get(&record.partition).is_some_and(|end| record.offset < *end));
        self.finish_if_at_end(record.partition, record.offset + 1)?;
        Ok(if is_in_range { ReadOutcome::Record { topic, record } } else { ReadOutcome::Nothing })
    }

    /// Pauses a partition once `position` reaches its end offset. Otherwise, new records would keep
    /// the reader from ending.
    fn finish_if_at_end(&mut self, partition: i32, position: i64) -> Result<(), StreamError> {
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

    /// Starts a thread that reads and parses records, for callers that must not block. `parse` gets
    /// the index of the record's topic. The thread ends when its handle is dropped.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn spawn<T: Send + 'static>(
        mut self,
        parse: impl Fn(usize, Record) -> Result<T, StreamError> + Send + 'static,
    ) -> Result<ReaderThread<T>, StreamError> {
        let (sender, items) = mpsc::channel(QUEUED_MAX);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let run = move || {
            while !stopped.load(Ordering::Acquire) {
                let item = match self.read(READ_WAIT) {
                    Ok(ReadOutcome::Record { topic, record }) => parse(topic, record),
                    Ok(ReadOutcome::Nothing) => continue,
                    Ok(ReadOutcome::End) => return,
                    Err(error) => Err(error),
                };
                if sender.blocking_send(item).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("dogiqa-reader".to_owned()).spawn(run).map_err(|error| {
            StreamError::Bug(format!("the reading thread did not start: {error}"))
        })?;
        Ok(ReaderThread { items, is_stopped })
    }
}

impl<T> ReaderThread<T> {
    /// Returns the next item. Items of one partition arrive in its order.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<T, StreamError> {
        let next = self.items.recv().await;
        next.unwrap_or_else(|| Err(StreamError::Bug("the reading thread ended".to_owned())))
    }
}

impl<T> Drop for ReaderThread<T> {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
    }
}

/// The client context of a reader: logs its errors.
struct ReaderContext;

impl ClientContext for ReaderContext {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_client_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::warn!(reason, "no broker can be reached; reading continues once one is back");
        } else {
            log_client_error(&error, reason);
        }
    }
}

impl ConsumerContext for ReaderContext {}

fn unreadable(topic: &str, error: &KafkaError) -> StreamError {
    match code_of(error) {
        code if is_forbidden(code) => {
            StreamError::Forbidden { action: format!("read topic {topic}"), code }
        }
        _ => StreamError::Unreadable { topic: topic.to_owned(), reason: error.clone() },
    }
}
