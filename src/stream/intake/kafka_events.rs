//! The callbacks of the consumer. Each of them only sends a message to the polling thread, which
//! then handles it with full access to its own state.
//!
//! A rebalance may be handled after its callback. librdkafka keeps the member in the state
//! `wait-assign-call` or `wait-unassign-call` until the application calls an assign function,
//! inside the callback or later. rdkafka runs the callback inside `poll`, on the polling thread,
//! and `poll` then returns without a record. So nothing is polled between callback and handling.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics as LibrdkafkaStatistics};

use crate::redact;
use crate::stream::broker::client_log::{log_client_error, log_client_line};
use crate::stream::broker::kafka_error::code_of;
use crate::stream::broker::notices::{Notice, offset_of_error};
use crate::stream::broker::sasl_login::SaslLogin;
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
    /// An error of the consumer, with librdkafka's words.
    Failed { code: RDKafkaErrorCode, reason: String },
    /// A fact from librdkafka's log.
    Noticed(Notice),
}

/// The consumer's context. A poll yields at most one rebalance, statistics at their interval, and
/// few errors, so the channel is short although it has no limit.
pub(crate) struct ConsumerCallbacks {
    pub(crate) events: Sender<KafkaEvent>,
    /// Offset of the last end of a partition, until the poll that reports it returns.
    end: AtomicI64,
    /// True if the user asked for librdkafka's debug lines.
    shows_debug: bool,
    login: Arc<SaslLogin>,
}

/// The value of `end` without an offset.
const NO_END: i64 = -1;

impl ConsumerCallbacks {
    pub(crate) fn new(shows_debug: bool, login: Arc<SaslLogin>) -> (Self, Receiver<KafkaEvent>) {
        let (events, receiver) = channel();
        (Self { events, end: AtomicI64::new(NO_END), shows_debug, login }, receiver)
    }

    /// Removes and returns the offset of the end that the current poll reports. `None` if
    /// librdkafka did not name it.
    pub(crate) fn take_end(&self) -> Option<i64> {
        let end = self.end.swap(NO_END, Ordering::Relaxed);
        (end != NO_END).then_some(end)
    }

    /// Without a receiver the consumer is closing.
    fn send(&self, event: KafkaEvent) {
        drop(self.events.send(event));
    }
}

impl ClientContext for ConsumerCallbacks {
    fn stats(&self, _: LibrdkafkaStatistics) {}

    fn stats_raw(&self, statistics: &[u8]) {
        match Statistics::parse(statistics) {
            Ok(statistics) => self.send(KafkaEvent::Statistics(statistics)),
            Err(error) => tracing::warn!(%error, "librdkafka's statistics cannot be read"),
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if let Some(notice) = Notice::parse(facility, line) {
            self.send(KafkaEvent::Noticed(notice));
        } else if self.shows_debug || !matches!(level, RDKafkaLogLevel::Debug) {
            log_client_line(level, facility, line);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = code_of(&error);
        if code == RDKafkaErrorCode::PartitionEOF {
            self.end.store(offset_of_error(reason).unwrap_or(NO_END), Ordering::Relaxed);
            return;
        }
        self.login.observe(&error);
        log_client_error(&error, reason);
        let reason = redact::librdkafka_reason(reason).to_owned();
        self.send(KafkaEvent::Failed { code, reason });
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
        KafkaEvent::Statistics(_) | KafkaEvent::Failed { .. } | KafkaEvent::Noticed(_) => {}
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
