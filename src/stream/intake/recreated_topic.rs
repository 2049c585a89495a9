//! An input topic that is deleted and created again: its partitions are read from their beginning.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;

use crate::stream::intake::commits::Committer;
use crate::stream::intake::group_consumer::Found;
use crate::stream::intake::polling::Poller;
use crate::stream::intake::position_watch::{PositionWatch, TopicSighting};

/// Time limit for reading the committed positions of several partitions.
const TOGETHER_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for reading the committed position of one partition. The next poll is delayed by at
/// most the sum of both limits.
const ALONE_TIMEOUT: Duration = Duration::from_secs(4);

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
            let compared = match &self.committer {
                Committer::Offsets(_) => &unverified[..],
                // A predecessor's transaction is likely then, so this asks for no others.
                Committer::Transactions(_) => &[partition],
            };
            let consumer = &self.consumer;
            let ask = |partitions: &[i32], timeout| consumer.of_another_topic(partitions, timeout);
            verify(&mut self.watch, partition, compared, ask);
        }
        if !self.watch.take_foreign(partition) {
            return false;
        }
        let Self { rebalancer, consumer, intake, committer, .. } = self;
        rebalancer.restart_foreign(consumer, intake, committer, partition);
        self.forget_positions(&[partition]);
        true
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

/// Compares the committed positions of `compared` with the topic in one request, or if that fails,
/// only that of `partition`. `ask` returns the partitions with a position of another topic.
///
/// An open transaction that commits the position of one partition holds the whole response back.
/// It is a predecessor's, which may have delivered exactly once although this worker does not.
/// `partition` alone has no such transaction, because it has returned something.
fn verify(
    watch: &mut PositionWatch,
    partition: i32,
    compared: &[i32],
    ask: impl Fn(&[i32], Duration) -> KafkaResult<Vec<i32>>,
) {
    if compared.len() > 1 {
        match ask(compared, TOGETHER_TIMEOUT) {
            Ok(foreign) => return watch.verified(compared, &foreign),
            Err(error) => {
                tracing::debug!(%error, "reading the committed offset of each partition alone");
                watch.verify_alone();
            }
        }
    }
    let foreign = ask(&[partition], ALONE_TIMEOUT).unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            partition,
            "the committed offset is not known; assuming that it belongs to this topic"
        );
        Vec::new()
    });
    // The others are compared when they return something.
    watch.verified(&[partition], &foreign);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rdkafka::error::KafkaError;
    use rdkafka::types::RDKafkaErrorCode;

    use super::*;

    const LATE: KafkaError = KafkaError::OffsetFetch(RDKafkaErrorCode::OperationTimedOut);

    /// Verifies partitions in turn. Returns the requests, the foreign partitions, and the longest
    /// time that one partition may take.
    fn verified(
        watch: &mut PositionWatch,
        partitions: &[i32],
        answer: impl Fn(&[i32]) -> KafkaResult<Vec<i32>>,
    ) -> (Vec<Vec<i32>>, Vec<i32>, Duration) {
        let asked = RefCell::new(Vec::new());
        let (mut foreign, mut longest) = (Vec::new(), Duration::ZERO);
        for &partition in partitions {
            let time = RefCell::new(Duration::ZERO);
            let compared = watch.unverified_with(partition);
            if !compared.is_empty() {
                verify(watch, partition, &compared, |partitions, timeout| {
                    asked.borrow_mut().push(partitions.to_vec());
                    *time.borrow_mut() += timeout;
                    answer(partitions)
                });
            }
            if watch.take_foreign(partition) {
                foreign.push(partition);
            }
            longest = longest.max(time.into_inner());
        }
        (asked.into_inner(), foreign, longest)
    }

    #[test]
    fn a_partition_that_is_held_back_does_not_prevent_the_comparison_of_the_others() {
        let mut watch = PositionWatch::default();
        watch.verify_later(&[0, 1, 2]);
        // A transaction is open on partition 2, and partition 1 has a position of another topic.
        let held = |asked: &[i32]| {
            let foreign = asked.iter().copied().filter(|&partition| partition == 1);
            if asked.contains(&2) { Err(LATE) } else { Ok(foreign.collect()) }
        };
        let (asked, foreign, longest) = verified(&mut watch, &[0, 1, 1], held);
        assert_eq!(asked, [vec![0, 1, 2], vec![0], vec![1]], "together only once");
        assert_eq!(foreign, [1]);
        assert!(longest <= Duration::from_secs(5), "{longest:?}");
        // The transaction ends, and the partition returns something.
        let (asked, foreign, _) = verified(&mut watch, &[2], |_| Ok(vec![2]));
        assert_eq!((asked, foreign), (vec![vec![2]], vec![2]));
        // A new assignment is asked together again.
        watch.verify_later(&[0, 1]);
        let (asked, ..) = verified(&mut watch, &[0, 1], |_| Ok(Vec::new()));
        assert_eq!(asked, [[0, 1]]);
    }

    #[test]
    fn a_position_that_stays_unknown_is_taken_for_one_of_this_topic() {
        let mut watch = PositionWatch::default();
        watch.verify_later(&[0, 1]);
        let (asked, foreign, longest) = verified(&mut watch, &[0, 0, 1, 1], |_| Err(LATE));
        assert_eq!((asked, foreign), (vec![vec![0, 1], vec![0], vec![1]], Vec::new()));
        assert!(longest <= Duration::from_secs(5), "{longest:?}");
    }
}
