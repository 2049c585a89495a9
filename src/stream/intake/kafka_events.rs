//! The callbacks of the consumer. Each of them only sends a message to the polling thread, which
//! then handles it with full access to its own state.
//!
//! A rebalance may be handled after its callback. librdkafka keeps the member in the state
//! `wait-assign-call` or `wait-unassign-call` until the application calls an assign function,
//! inside the callback or later. rdkafka runs the callback inside `poll`, on the polling thread,
//! and `poll` then returns without a record. So nothing is polled between callback and handling.

use std::sync::mpsc::{Receiver, SendError, Sender, channel};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics as LibrdkafkaStatistics};

use crate::stream::broker::kafka_error::log_client_error;
use crate::stream::intake::librdkafka_statistics::Statistics;

/// A message of librdkafka to the polling thread.
#[derive(Debug)]
pub(crate) enum KafkaEvent {
    /// The group assigned partitions. Must be answered with [`assign`].
    Assigned(TopicPartitionList),
    /// The group revokes partitions, or they are lost. Must be answered with [`unassign`].
    Revoked(TopicPartitionList),
    /// Statistics, every `statistics.interval.ms`.
    Statistics(Statistics),
}

/// The consumer's context. A poll yields at most one rebalance, and statistics at their interval,
/// so the channel is short although it has no limit.
pub(crate) struct ConsumerCallbacks {
    pub(crate) events: Sender<KafkaEvent>,
}

impl ConsumerCallbacks {
    pub(crate) fn new() -> (Self, Receiver<KafkaEvent>) {
        let (events, receiver) = channel();
        (Self { events }, receiver)
    }
}

impl ClientContext for ConsumerCallbacks {
    fn stats(&self, _: LibrdkafkaStatistics) {}

    fn stats_raw(&self, statistics: &[u8]) {
        match Statistics::parse(statistics) {
            // Without a receiver the consumer is closing.
            Ok(statistics) => drop(self.events.send(KafkaEvent::Statistics(statistics))),
            Err(error) => tracing::warn!(%error, "librdkafka's statistics cannot be read"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&error, reason);
    }
}

impl ConsumerContext for ConsumerCallbacks {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let event = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                KafkaEvent::Assigned(partitions.clone())
            }
            // librdkafka expects an unassign after errors, too.
            _ => KafkaEvent::Revoked(partitions.clone()),
        };
        // Without a receiver the consumer is closing, and no other code would answer librdkafka.
        if let Err(SendError(event)) = self.events.send(event) {
            acknowledge(consumer, &event);
        }
    }
}

/// Answers a rebalance without acting on it.
pub(crate) fn acknowledge(consumer: &BaseConsumer<ConsumerCallbacks>, event: &KafkaEvent) {
    match event {
        KafkaEvent::Assigned(partitions) => assign(consumer, partitions),
        KafkaEvent::Revoked(partitions) => unassign(consumer, partitions),
        KafkaEvent::Statistics(_) => {}
    }
}

/// Accepts assigned partitions: librdkafka starts to fetch them.
pub(crate) fn assign(consumer: &BaseConsumer<ConsumerCallbacks>, partitions: &TopicPartitionList) {
    log_failure(match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        _ => consumer.assign(partitions),
    });
}

/// Gives up revoked partitions: librdkafka stops fetching them, and the group may reassign them.
pub(crate) fn unassign(
    consumer: &BaseConsumer<ConsumerCallbacks>,
    partitions: &TopicPartitionList,
) {
    log_failure(match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    });
}

fn log_failure(result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "librdkafka rejected a change of the assignment");
    }
}
