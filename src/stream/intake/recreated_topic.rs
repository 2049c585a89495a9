//! An input topic that is deleted and created again: its partitions are read from their beginning.

use std::time::Instant;

use crate::stream::intake::group_consumer::Found;
use crate::stream::intake::polling::Poller;
use crate::stream::intake::position_watch::TopicSighting;

impl Poller {
    /// Compares the committed position of a partition with the topic when the partition first
    /// returns something. Until then, a predecessor's transaction may hold the position back.
    /// Returns true if the partition is read from its beginning instead.
    pub(crate) fn is_of_another_topic(&mut self, found: &Found) -> bool {
        let partition = match found {
            Found::Record(record) => record.partition,
            Found::End { partition, .. } => *partition,
            Found::Nothing => return false,
        };
        if !self.watch.must_verify(partition) {
            return false;
        }
        let Self { rebalancer, consumer, intake, committer, .. } = self;
        let is_restarted = rebalancer.restart_foreign(consumer, intake, committer, partition);
        if is_restarted {
            self.forget_positions(&[partition]);
        }
        is_restarted
    }

    /// Handles an id of the input topic. Returns true if partitions were restarted at their
    /// beginning.
    pub(crate) fn topic_seen(&mut self, id: String) -> bool {
        let Self { intake, consumer, committer, rebalancer, watch, .. } = self;
        let identity = consumer.identity_of(&id);
        match watch.topic_seen(id, Instant::now()) {
            TopicSighting::Known => false,
            TopicSighting::First => {
                committer.set_identity(&identity);
                consumer.set_identity(Some(identity));
                // Partitions that the group assigned before the brokers returned the id.
                watch.verify_later(&self.partitions.assigned());
                false
            }
            TopicSighting::CreatedAgain => {
                let is_restarted = rebalancer.restart(consumer, intake, committer, &identity);
                if is_restarted {
                    self.forget_positions(&self.partitions.assigned());
                }
                is_restarted
            }
        }
    }
}
