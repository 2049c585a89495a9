//! An input topic that is deleted and created again: its partitions are read from their beginning.

use std::time::{Duration, Instant};

use crate::stream::intake::commits::Committer;
use crate::stream::intake::group_consumer::Found;
use crate::stream::intake::polling::Poller;
use crate::stream::intake::position_watch::TopicSighting;

/// Time limit for reading committed positions.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(5);

impl Poller {
    /// Compares the committed position of a partition with the topic when the partition first
    /// returns something. Returns true if the partition is read from its beginning instead.
    pub(crate) fn is_of_another_topic(&mut self, found: &Found) -> bool {
        let partition = match found {
            Found::Record(record) => record.partition,
            Found::End { partition, .. } => *partition,
            Found::Nothing => return false,
        };
        let unverified = self.watch.unverified_with(partition);
        if !unverified.is_empty() {
            self.verify(partition, &unverified);
        }
        if !self.watch.take_foreign(partition) {
            return false;
        }
        let Self { rebalancer, consumer, intake, committer, .. } = self;
        rebalancer.restart_foreign(consumer, intake, committer, partition);
        self.forget_positions(&[partition]);
        true
    }

    /// Compares the committed positions of `unverified` with the topic in one request. With
    /// transactions only that of `partition`: until the others return something, a predecessor's
    /// transaction may hold their positions back, and with them the response.
    fn verify(&mut self, partition: i32, unverified: &[i32]) {
        let compared = match &self.committer {
            Committer::Offsets(_) => unverified,
            Committer::Transactions(_) => &[partition],
        };
        match self.consumer.of_another_topic(compared, VERIFY_TIMEOUT) {
            Ok(foreign) => self.watch.verified(compared, &foreign),
            Err(error) => {
                tracing::warn!(
                    %error,
                    partition,
                    "the committed offset is not known; assuming that it belongs to this topic"
                );
                // The others are compared when they return something.
                self.watch.verified(&[partition], &[]);
            }
        }
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
