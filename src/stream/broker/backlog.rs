//! The records of the input topic that the group has not committed, and whether retention deletes
//! them first.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::stream::broker::kafka_error::configuration_error;
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Share of the retention time after which a record is about to be deleted.
const NEARLY: f64 = 0.8;

/// The backlog of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Records that were not committed.
    pub records: u64,
    /// Records that were deleted before the group had committed them.
    pub deleted: u64,
    /// True if a record that is not committed is older than four fifths of the retention time.
    pub is_nearly_deleted: bool,
}

/// Reads the backlog of the worker's group. Blocks, for each request at most for `probe_timeout`.
/// Returns `None` if the brokers do not report it, for example because this client may not read the
/// group.
///
/// # Errors
/// Fails if librdkafka refuses the configuration.
pub fn backlog(
    settings: &Settings,
    partitions: usize,
    retention: Option<Duration>,
) -> Result<Option<Backlog>, StreamError> {
    let mut config = settings.admin_config()?;
    config.set("group.id", &settings.group_id);
    let client: BaseConsumer = config.create().map_err(|error| configuration_error(&error))?;
    Ok(read(settings, &client, partitions, retention).ok())
}

fn read(
    settings: &Settings,
    client: &BaseConsumer,
    partitions: usize,
    retention: Option<Duration>,
) -> Result<Backlog, KafkaError> {
    let (topic, timeout) = (&settings.input_topic, settings.probe_timeout);
    let numbers = 0..i32::try_from(partitions).unwrap_or(i32::MAX);
    let mut list = TopicPartitionList::new();
    for partition in numbers.clone() {
        list.add_partition(topic, partition);
    }
    let committed = client.committed_offsets(list, timeout)?;
    let old_before = match retention.and_then(nearly_deleted_before_ms) {
        Some(time_ms) => {
            let mut times = TopicPartitionList::new();
            for partition in numbers.clone() {
                times.add_partition_offset(topic, partition, Offset::Offset(time_ms))?;
            }
            Some(client.offsets_for_times(times, timeout)?)
        }
        None => None,
    };
    let offset_in = |list: &TopicPartitionList, partition| {
        list.find_partition(topic, partition).and_then(|found| match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    };
    let mut backlog = Backlog::default();
    for partition in numbers {
        let (first, end) = client.fetch_watermarks(topic, partition, timeout)?;
        // A group that has never committed starts at the first record.
        let next = offset_in(&committed, partition).unwrap_or(first);
        backlog.deleted += u64::try_from(first - next).unwrap_or(0);
        backlog.records += u64::try_from(end - next.max(first)).unwrap_or(0);
        let young = old_before.as_ref().and_then(|list| offset_in(list, partition)).unwrap_or(end);
        // Without a younger record, the answer is the end of the partition.
        backlog.is_nearly_deleted |= old_before.is_some() && next < young.min(end);
    }
    Ok(backlog)
}

/// Returns the time in milliseconds since 1970 before which records are about to be deleted.
fn nearly_deleted_before_ms(retention: Duration) -> Option<i64> {
    let time = SystemTime::now().checked_sub(retention.mul_f64(NEARLY))?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}
