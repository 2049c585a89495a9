//! The records of the input topic that the workers' group has not committed, read again and again
//! by a client that joins no group.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::stream::broker::connection_errors::ConnectionErrors;
use crate::stream::broker::kafka_error::{
    code_of, configuration_error, is_forbidden, is_unknown_topic,
};
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Longest time for all requests of one reading.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that reads the lag of the workers' group.
pub struct GroupLag {
    client: BaseConsumer<ConnectionErrors>,
    settings: Settings,
}

/// The lag of the group at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LagReport {
    /// Records that are not committed, by partition.
    pub partitions: Vec<u64>,
    /// False if the group has no committed offset in any partition. Its lag then counts all
    /// retained records.
    pub is_committed: bool,
}

impl std::fmt::Debug for GroupLag {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GroupLag").finish_non_exhaustive()
    }
}

impl GroupLag {
    /// Creates the client. Does not wait for a connection.
    ///
    /// # Errors
    /// Fails if librdkafka refuses the configuration.
    pub fn connect(settings: &Settings) -> Result<Self, StreamError> {
        let mut config = settings.admin_config()?;
        // Names the group whose offsets are read; a client joins it only if it subscribes.
        config.set("group.id", &settings.group_id);
        let client = config
            .create_with_context(ConnectionErrors::default())
            .map_err(|error| configuration_error(&error))?;
        let probe_timeout = settings.probe_timeout.min(READ_TIMEOUT);
        Ok(Self { client, settings: Settings { probe_timeout, ..settings.clone() } })
    }

    /// Reads the lag. Blocks, at most for five seconds or `probe_timeout`.
    ///
    /// # Errors
    /// Fails if no broker answers in time, the topic does not exist, or this client may not read
    /// the group or the topic.
    pub fn read(&self) -> Result<LagReport, StreamError> {
        // Error events would fill the queue of a client that is never polled.
        while self.client.poll(Duration::ZERO).is_some() {}
        let deadline = Instant::now() + self.settings.probe_timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        let topic = &self.settings.input_topic;
        let describe = |error: KafkaError| self.failure(&error, format!("describe topic {topic}"));
        let metadata = self.client.fetch_metadata(Some(topic), left()).map_err(|error| {
            match code_of(&error) {
                code if is_forbidden(code) || is_unknown_topic(code) => describe(error),
                _ => self.client.context().unreachable(&self.settings, &error),
            }
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if let Some(error) = found.and_then(MetadataTopic::error) {
            return Err(describe(KafkaError::MetadataFetch(error.into())));
        }
        let partitions = found.map_or(0, |found| found.partitions().len());
        let numbers = 0..i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut list = TopicPartitionList::new();
        for partition in numbers.clone() {
            list.add_partition(topic, partition);
        }
        let group = &self.settings.group_id;
        let committed = self
            .client
            .committed_offsets(list, left())
            .map_err(|error| self.failure(&error, format!("describe group {group}")))?;
        let mut report = LagReport { partitions: Vec::new(), is_committed: false };
        for partition in numbers {
            let (first, end) =
                self.client.fetch_watermarks(topic, partition, left()).map_err(describe)?;
            let position = committed.find_partition(topic, partition).map(|found| found.offset());
            // A group that has never committed starts at the first record.
            let next = match position {
                Some(Offset::Offset(offset)) => {
                    report.is_committed = true;
                    offset.max(first)
                }
                _ => first,
            };
            report.partitions.push(u64::try_from(end - next).unwrap_or(0));
        }
        Ok(report)
    }

    /// Returns the error of a request that a broker answered.
    fn failure(&self, error: &KafkaError, action: String) -> StreamError {
        match code_of(error) {
            code if is_forbidden(code) => StreamError::Forbidden { action, code },
            code if is_unknown_topic(code) => StreamError::MissingTopics(format!(
                "topic {} does not exist; check kafka.input_topic",
                self.settings.input_topic
            )),
            // For example, the coordinator of the group is moving.
            _ => StreamError::Unreadable {
                topic: self.settings.input_topic.clone(),
                reason: error.clone(),
            },
        }
    }
}
