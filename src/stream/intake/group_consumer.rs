//! A member of the consumer group: one `poll` returns records and rebalances.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use crate::stream::broker::kafka_error::configuration_error;
use crate::stream::broker::partition_list::{numbers, of_partitions, of_positions};
use crate::stream::broker::sasl_login::{Credentials, SaslLogin};
use crate::stream::broker::topic_identity::TopicIdentity;
use crate::stream::error::StreamError;
use crate::stream::intake::kafka_events::{
    ConsumerCallbacks, KafkaEvent, acknowledge, assign, unassign,
};
use crate::stream::offsets::tracker::CommittableOffset;
use crate::stream::record::delivery::Record;
use crate::stream::settings::Settings;

/// Time limit for the metadata of the topic.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the id of the cluster, which arrives with them.
const CLUSTER_ID_TIMEOUT: Duration = Duration::from_secs(1);

/// The consumer of the input topic.
///
/// Dropping it leaves the group. librdkafka then revokes the assignment again, and waits for the
/// answer. `events` is declared first, so that the receiver is dropped before the consumer and the
/// callback answers on its own.
pub(crate) struct GroupConsumer {
    events: Receiver<KafkaEvent>,
    consumer: BaseConsumer<ConsumerCallbacks>,
    topic: String,
    /// Identity of the topic. `None` until the brokers return it; some have none.
    identity: Option<TopicIdentity>,
}

/// The result of a poll: the events of the callbacks, oldest first, and what followed them. All
/// events: a rebalance must not wait behind statistics until the next turn, because nothing is read
/// or committed before its answer.
pub(crate) struct Polled {
    pub(crate) events: Vec<KafkaEvent>,
    pub(crate) found: Found,
}

/// The result of a poll, besides events.
pub(crate) enum Found {
    /// A record of the current assignment.
    Record(Record),
    /// The end of a partition: every record before `position` was returned.
    End { partition: i32, position: i64 },
    /// Nothing before the timeout, or before the events.
    Nothing,
}

impl GroupConsumer {
    /// Creates the consumer; it joins the group later, with [`GroupConsumer::join`].
    ///
    /// # Errors
    /// Fails if librdkafka rejects the configuration.
    pub(crate) fn create(settings: &Settings, login: Arc<SaslLogin>) -> Result<Self, StreamError> {
        let shows_debug = settings.properties.resolve()?.contains_key("debug");
        let (callbacks, events) = ConsumerCallbacks::new(shows_debug, login);
        let config = settings.consumer_config()?;
        let consumer =
            config.create_with_context(callbacks).map_err(|error| configuration_error(&error))?;
        Ok(Self { events, consumer, topic: settings.input_topic.clone(), identity: None })
    }

    /// Subscribes to the input topic. The group assigns partitions during later polls. Blocks until
    /// the brokers describe the topic.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the subscription.
    pub(crate) fn join(&self) -> KafkaResult<()> {
        // So that a poll returns the topic's id before any assignment.
        self.request_topic_id();
        self.consumer.subscribe(&[&self.topic])
    }

    /// Requests the topic's id from the brokers. If it changed, a poll returns it before any record
    /// of partitions that are assigned afterwards. Blocks.
    pub(crate) fn request_topic_id(&self) {
        if let Err(error) = self.consumer.fetch_metadata(Some(&self.topic), METADATA_TIMEOUT) {
            tracing::warn!(%error, topic = self.topic, "the current id of the topic is not known");
        }
    }

    /// Reconnects with other credentials.
    pub(crate) fn log_in(&self, credentials: &Credentials) {
        credentials.apply(self.consumer.client());
    }

    /// Waits for a record or events. Returns pending events first: librdkafka is polled only when
    /// every rebalance is handled, so a record always belongs to the current assignment.
    pub(crate) fn poll(&self, timeout: Duration) -> Polled {
        let events = self.pending();
        if !events.is_empty() {
            return Polled { events, found: Found::Nothing };
        }
        let found = match self.consumer.poll(timeout) {
            Some(Ok(message)) => Found::Record(Record::copy(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let end = self.consumer.context().take_end();
                end.map_or(Found::Nothing, |position| Found::End { partition, position })
            }
            // The callback has sent the error, with its reason.
            Some(Err(_)) | None => Found::Nothing,
        };
        Polled { events: self.pending(), found }
    }

    /// Returns all pending events.
    fn pending(&self) -> Vec<KafkaEvent> {
        self.events.try_iter().collect()
    }

    /// Accepts assigned partitions.
    pub(crate) fn assign(&self, partitions: &TopicPartitionList) {
        assign(&self.consumer, partitions);
    }

    /// Accepts assigned partitions, and reads some of them from offset 0 or their earliest one.
    pub(crate) fn assign_from_beginning(&self, assigned: &TopicPartitionList, first: &[i32]) {
        let list = assigned.clone();
        for partition in first {
            if let Some(mut element) = list.find_partition(&self.topic, *partition) {
                element.set_offset(Offset::Offset(0)).expect("0 is an offset");
            }
        }
        self.assign(&list);
    }

    /// Gives up revoked partitions.
    pub(crate) fn unassign(&self, partitions: &TopicPartitionList) {
        unassign(&self.consumer, partitions);
    }

    /// Returns true if the group reassigned the partitions without waiting for this worker.
    pub(crate) fn is_assignment_lost(&self) -> bool {
        self.consumer.assignment_lost()
    }

    /// Returns the identity of the topic with this id.
    pub(crate) fn identity_of(&self, topic_id: &str) -> TopicIdentity {
        let cluster_id = self.consumer.client().fetch_cluster_id(CLUSTER_ID_TIMEOUT);
        TopicIdentity::new(&cluster_id.unwrap_or_default(), topic_id)
    }

    /// Returns the identity of the topic whose positions are committed.
    pub(crate) fn identity(&self) -> Option<&TopicIdentity> {
        self.identity.as_ref()
    }

    /// Commits positions of this topic from now on.
    pub(crate) fn set_identity(&mut self, identity: Option<TopicIdentity>) {
        self.identity = identity;
    }

    /// Returns those partitions whose committed position names another topic: a worker that had not
    /// noticed the new one committed it. Sends one request.
    ///
    /// # Errors
    /// Fails if the brokers do not return the positions within `timeout`.
    pub(crate) fn of_another_topic(
        &self,
        partitions: &[i32],
        timeout: Duration,
    ) -> KafkaResult<Vec<i32>> {
        let Some(identity) = &self.identity else { return Ok(Vec::new()) };
        let list = of_partitions(&self.topic, partitions);
        let committed = self.consumer.committed_offsets(list, timeout)?;
        let elements = committed.elements();
        if let Some(error) = elements.iter().find_map(|element| element.error().err()) {
            return Err(error);
        }
        let foreign =
            elements.iter().filter(|element| identity.is_of_another_topic(element.metadata()));
        Ok(foreign.map(TopicPartitionListElem::partition).collect())
    }

    /// Returns those partitions whose committed position does not name this topic: it may be one of
    /// the deleted topic. All of them, if the brokers do not return the positions within `timeout`.
    pub(crate) fn with_old_positions(
        &self,
        partitions: &[i32],
        identity: &TopicIdentity,
        timeout: Duration,
    ) -> Vec<i32> {
        let list = of_partitions(&self.topic, partitions);
        let committed = match self.consumer.committed_offsets(list, timeout) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::warn!(%error, "the committed offsets of the new input topic are not known");
                return partitions.to_vec();
            }
        };
        let is_current = |element: &TopicPartitionListElem<'_>| {
            element.metadata() == identity.metadata() && element.error().is_ok()
        };
        let elements = committed.elements();
        let old = elements.iter().filter(|element| !is_current(element));
        old.map(TopicPartitionListElem::partition).collect()
    }

    /// Pauses partitions. librdkafka drops the records that it fetched ahead.
    pub(crate) fn pause(&self, partitions: &[i32]) {
        self.apply(partitions, "pause", |list| self.consumer.pause(list));
    }

    /// Resumes partitions.
    pub(crate) fn resume(&self, partitions: &[i32]) {
        self.apply(partitions, "resume", |list| self.consumer.resume(list));
    }

    /// Reads partitions from offset 0 again, or from their earliest one. librdkafka would take the
    /// beginning from its cache, which may still be that of a deleted topic.
    ///
    /// # Errors
    /// Fails if librdkafka does not move a partition within `timeout`.
    pub(crate) fn seek_to_beginning(
        &self,
        partitions: &[i32],
        timeout: Duration,
    ) -> KafkaResult<()> {
        let mut list = of_partitions(&self.topic, partitions);
        list.set_all_offsets(Offset::Offset(0))?;
        let moved = self.consumer.seek_partitions(list, timeout)?;
        moved.elements().iter().try_for_each(TopicPartitionListElem::error)
    }

    /// Returns the position after the last returned record of each assigned partition. Without one,
    /// the committed position, or the beginning.
    ///
    /// # Errors
    /// Fails if the brokers do not return the committed positions within `timeout`.
    pub(crate) fn positions(&self, timeout: Duration) -> KafkaResult<TopicPartitionList> {
        let committed = self.consumer.committed(timeout)?;
        let mut positions = TopicPartitionList::new();
        for element in self.consumer.position()?.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let stored = committed.find_partition(topic, partition);
            let candidates = [Some(element.offset()), stored.map(|stored| stored.offset())];
            let known = candidates.into_iter().flatten();
            let offset = known.into_iter().find(|offset| matches!(offset, Offset::Offset(_)));
            let offset = offset.unwrap_or(Offset::Beginning);
            positions.add_partition_offset(topic, partition, offset)?;
        }
        Ok(positions)
    }

    /// Commits positions.
    ///
    /// # Errors
    /// Fails if the brokers reject the commit. With `Async` only if librdkafka does: the brokers'
    /// answer is never reported, because rdkafka registers no commit callback for it.
    pub(crate) fn commit(
        &self,
        positions: &[CommittableOffset],
        mode: CommitMode,
    ) -> KafkaResult<()> {
        let list = of_positions(&self.topic, self.identity.as_ref(), positions);
        self.consumer.commit(&list, mode)
    }

    /// Returns the error after which librdkafka's client is unusable, if there is one.
    pub(crate) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.consumer.client().fatal_error()
    }

    /// Returns the numbers of a list's partitions.
    pub(crate) fn numbers(&self, partitions: &TopicPartitionList) -> Vec<i32> {
        numbers(partitions, &self.topic)
    }

    /// Returns the input topic.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the underlying consumer, for the group metadata of a transaction.
    pub(crate) fn inner(&self) -> &BaseConsumer<ConsumerCallbacks> {
        &self.consumer
    }

    /// Calls librdkafka, which reports a partition that is not assigned any more in its element.
    fn apply(
        &self,
        partitions: &[i32],
        action: &'static str,
        call: impl Fn(&TopicPartitionList) -> KafkaResult<()>,
    ) {
        if partitions.is_empty() {
            return;
        }
        let list = of_partitions(&self.topic, partitions);
        if let Err(error) = call(&list) {
            tracing::warn!(%error, action, "librdkafka refused");
        }
        for element in list.elements() {
            if let Err(error) = element.error() {
                let partition = element.partition();
                tracing::warn!(%error, action, partition, "librdkafka refused");
            }
        }
    }
}

impl Drop for GroupConsumer {
    /// Answers the rebalances that no poll returned; librdkafka would wait for them indefinitely.
    fn drop(&mut self) {
        for event in self.events.try_iter() {
            acknowledge(&self.consumer, &event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::stream::broker::embedded::EmbeddedBroker;
    use crate::stream::broker::notices::Notice;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn create(settings: &Settings) -> GroupConsumer {
        let login = Arc::new(SaslLogin::new(settings.properties.clone()));
        GroupConsumer::create(settings, login).unwrap()
    }

    #[test]
    fn a_poll_returns_all_pending_events() {
        let consumer = create(&Settings::default());
        let events = &consumer.consumer.context().events;
        events.send(KafkaEvent::Revoked(TopicPartitionList::new())).unwrap();
        events.send(KafkaEvent::Assigned(TopicPartitionList::new())).unwrap();
        let events = consumer.poll(Duration::ZERO).events;
        assert!(matches!(events[..], [KafkaEvent::Revoked(_), KafkaEvent::Assigned(_)]));
    }

    #[test]
    fn a_committed_position_names_its_topic_and_the_id_arrives_before_the_assignment() {
        let mut settings = Settings::default();
        let broker = EmbeddedBroker::start(&settings.topics(), 2, None).unwrap();
        broker.configure(&mut settings);
        let mut consumer = create(&settings);
        consumer.join().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut topic_id = None;
        let assigned = 'assigned: loop {
            assert!(Instant::now() < deadline, "the group assigns the partitions");
            for event in consumer.poll(Duration::from_millis(100)).events {
                match event {
                    KafkaEvent::Noticed(Notice::TopicId { id, .. }) => topic_id = Some(id),
                    KafkaEvent::Assigned(partitions) => break 'assigned partitions,
                    _ => {}
                }
            }
        };
        let topic_id = topic_id.expect("the topic's id arrives before the assignment");
        consumer.assign(&assigned);
        let (current, deleted) = (consumer.identity_of(&topic_id), consumer.identity_of("deleted"));
        for (committed_for, is_old, is_foreign) in
            [(None, true, false), (Some(&current), false, false), (Some(&deleted), true, true)]
        {
            consumer.set_identity(committed_for.cloned());
            let position = CommittableOffset { partition: 1, offset: 1 };
            consumer.commit(&[position], CommitMode::Sync).unwrap();
            consumer.set_identity(Some(current.clone()));
            let old = consumer.with_old_positions(&[1], &current, PATIENCE);
            assert_eq!(!old.is_empty(), is_old, "{committed_for:?}");
            let foreign = consumer.of_another_topic(&[0, 1], PATIENCE).unwrap();
            assert_eq!(foreign, vec![1; usize::from(is_foreign)], "{committed_for:?}");
        }
    }

    #[test]
    fn a_consumer_closes_with_a_rebalance_that_no_poll_returned() {
        let mut settings = Settings::default();
        let broker = EmbeddedBroker::start(&settings.topics(), 1, None).unwrap();
        broker.configure(&mut settings);
        let consumer = create(&settings);
        consumer.join().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let event = loop {
            assert!(Instant::now() < deadline, "the group assigns the partition");
            let events = consumer.poll(Duration::from_millis(100)).events;
            let is_assigned = |event: &KafkaEvent| matches!(event, KafkaEvent::Assigned(_));
            if let Some(event) = events.into_iter().find(is_assigned) {
                break event;
            }
        };
        // As if the loop had ended between the callback and the next poll.
        consumer.consumer.context().events.send(event).unwrap();
        let (closed, is_closed) = channel();
        thread::spawn(move || {
            drop(consumer);
            closed.send(()).unwrap();
        });
        is_closed.recv_timeout(PATIENCE).expect("the consumer closes");
    }
}
