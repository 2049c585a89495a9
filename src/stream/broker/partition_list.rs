//! Lists of partitions of one topic in librdkafka's form.

use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use crate::stream::broker::topic_identity::TopicIdentity;
use crate::stream::offsets::tracker::CommittableOffset;

/// Returns a list of partitions.
pub(crate) fn of_partitions(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

/// Returns a list of partitions with the offset at which the group continues. The metadata of the
/// commit distinguishes it from positions of a deleted topic with the same name.
pub(crate) fn of_positions(
    topic: &str,
    identity: Option<&TopicIdentity>,
    positions: &[CommittableOffset],
) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for CommittableOffset { partition, offset } in positions {
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
        added.expect("a position is one past an offset of the log");
        let added = list.find_partition(topic, *partition);
        if let (Some(identity), Some(mut added)) = (identity, added) {
            added.set_metadata(identity.metadata());
        }
    }
    list
}

/// Returns the numbers of the partitions of `topic` in the list.
pub(crate) fn numbers(list: &TopicPartitionList, topic: &str) -> Vec<i32> {
    list.elements_for_topic(topic).iter().map(TopicPartitionListElem::partition).collect()
}
