//! Finds the partition whose records cannot be read.
//!
//! librdkafka reports only the offset of a batch that it cannot decompress. A second consumer,
//! which joins no group, reads each partition from its position until one fails.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientContext, Statistics};

use crate::stream::broker::kafka_error::{ReadVerdict, code_of, configuration_error, read_verdict};
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Time limit for one partition. A healthy one returns a record or its end at once.
const PARTITION_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for all partitions, if their brokers do not answer.
const SEARCH_TIMEOUT: Duration = Duration::from_mins(1);
/// Time limit of one poll.
const POLL: Duration = Duration::from_millis(100);

/// Returns the topic and partition of the first position at which records cannot be read. `None` if
/// none is found in a minute. Blocks.
///
/// # Errors
/// Fails if librdkafka refuses the configuration or the assignment.
pub(crate) fn find_unreadable(
    settings: &Settings,
    positions: &TopicPartitionList,
) -> Result<Option<(String, i32)>, StreamError> {
    let deadline = Instant::now() + SEARCH_TIMEOUT;
    let consumer: BaseConsumer<Silent> = settings
        .reader_config()?
        .create_with_context(Silent)
        .map_err(|error| configuration_error(&error))?;
    for position in positions.elements() {
        if Instant::now() >= deadline {
            break;
        }
        let mut list = TopicPartitionList::new();
        let (topic, partition) = (position.topic(), position.partition());
        let added = list.add_partition_offset(topic, partition, position.offset());
        added
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| StreamError::Unreadable { topic: topic.to_owned(), reason: error })?;
        if fails(&consumer) {
            return Ok(Some((topic.to_owned(), partition)));
        }
    }
    Ok(None)
}

fn fails(consumer: &BaseConsumer<Silent>) -> bool {
    let deadline = Instant::now() + PARTITION_TIMEOUT;
    while Instant::now() < deadline {
        match consumer.poll(POLL) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return false,
            Some(Err(error)) if read_verdict(code_of(&error)) == ReadVerdict::Unreadable => {
                return true;
            }
            Some(Err(_)) | None => {}
        }
    }
    false
}

/// Logs nothing: the caller's own consumer has reported the error.
struct Silent;

impl ClientContext for Silent {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}
