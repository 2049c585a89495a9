//! Lists of partitions of one topic in librdkafka's form.

use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use crate::stream::offsets::tracker::CommittableOffset;

/// Returns a list of partitions.
pub(crate) fn of_partitions(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

/// Returns a list of partitions with the offset at which the group continues. The id of a topic
/// that was created again becomes the metadata of the commit: it distinguishes its positions from
/// those of the deleted topic.
pub(crate) fn of_positions(
    topic: &str,
    topic_id: Option<&str>,
    positions: &[CommittableOffset],
) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for CommittableOffset { partition, offset } in positions {
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
        added.expect("a position is one past an offset of the log");
        if let (Some(id), Some(mut added)) = (topic_id, list.find_partition(topic, *partition)) {
            added.set_metadata(id);
        }
    }
    list
}

/// Returns the numbers of the partitions of `topic` in the list.
pub(crate) fn numbers(list: &TopicPartitionList, topic: &str) -> Vec<i32> {
    list.elements_for_topic(topic).iter().map(TopicPartitionListElem::partition).collect()
}
