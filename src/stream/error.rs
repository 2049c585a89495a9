//! The errors that end a worker or a client, one variant per remedy.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An error that ends a worker or a client. A worker that ends with one commits nothing more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// A setting is invalid, conflicts with the delivery guarantees, or is refused by librdkafka.
    #[error("{0}")]
    Configuration(String),
    /// No broker responded at start-up.
    #[error(
        "no broker of kafka.bootstrap_servers = {brokers} answered within {waited}: {reason}; \
         check the address and that the brokers are up"
    )]
    Unreachable {
        /// The configured addresses.
        brokers: String,
        /// The time that was waited.
        waited: humantime::FormattedDuration,
        /// The last error of librdkafka.
        reason: String,
    },
    /// The brokers refuse the worker's credentials or certificate, or the worker does not trust
    /// theirs.
    #[error("{0}")]
    Security(String),
    /// A topic does not exist or cannot be created.
    #[error("{0}")]
    MissingTopics(String),
    /// An access control list denies an operation that the worker needs.
    #[error(
        "the brokers deny permission to {action} ({code}); grant this client's principal that \
         operation"
    )]
    Forbidden {
        /// The denied operation: `read topic …`, `commit offsets of the group …`.
        action: String,
        /// The error code.
        code: RDKafkaErrorCode,
    },
    /// A record cannot be written, and a retry would not help.
    #[error("cannot write to topic {topic}: {reason}; the record stays uncommitted")]
    Publish {
        /// The output topic.
        topic: String,
        /// The error of librdkafka.
        reason: KafkaError,
    },
    /// A topic cannot be read outside of the consumer group.
    #[error("topic {topic} cannot be read: {reason}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The error of librdkafka.
        reason: KafkaError,
    },
    /// Records of the input topic cannot be decompressed or parsed. librdkafka does not read past
    /// them.
    #[error(
        "topic {topic}, partition {partition}, offset {offset}: the records cannot be read: \
         {reason}. None was skipped. If the batch decompresses to more than \
         receive.message.max.bytes, raise that in kafka.properties; if it is damaged, stop the \
         workers and reset the group's offset to the first one after it: \
         kafka-consumer-groups.sh --group {group} --topic {topic}:{partition} \
         --reset-offsets --to-offset <first offset after the batch> --execute"
    )]
    UnreadableRecords {
        /// The input topic.
        topic: String,
        /// The partition, or the partitions of which it is one.
        partition: String,
        /// Offset of the batch.
        offset: String,
        /// The consumer group.
        group: String,
        /// The error of librdkafka.
        reason: String,
    },
    /// The group has members with another assignment strategy or another group protocol.
    #[error(
        "the members of group {group} use another assignment strategy than this worker \
         ({strategy}); stop the other consumers of the group, or set another kafka.group_id"
    )]
    InconsistentGroup {
        /// The consumer group.
        group: String,
        /// The strategy of this worker.
        strategy: &'static str,
    },
    /// The brokers refuse the configuration of this member of the group.
    #[error("the brokers refuse this member of group {group} ({code}): {reason}")]
    Refused {
        /// The consumer group.
        group: String,
        /// The error code.
        code: RDKafkaErrorCode,
        /// The error of librdkafka.
        reason: String,
    },
    /// The input topic was deleted and created again, and its beginning cannot be found.
    #[error(
        "topic {topic} was deleted and created again, and the worker cannot start at its \
         beginning: {reason}; restart the worker once the brokers answer"
    )]
    TopicRecreated {
        /// The input topic.
        topic: String,
        /// The error of librdkafka.
        reason: KafkaError,
    },
    /// librdkafka reported a fatal error: the client cannot be used any more.
    #[error("the Kafka client cannot continue: {0}; restart the worker")]
    Fatal(String),
    /// Two workers use the same `kafka.group_instance_id`.
    #[error(
        "another member of group {group} uses the same kafka.group_instance_id; set a different \
         one for every worker"
    )]
    DuplicateInstance {
        /// The consumer group.
        group: String,
    },
    /// The brokers fenced this worker's transactional producer.
    #[error(
        "the transactional id {id} was fenced: another worker uses it, or this one was \
         unreachable for too long; restart the worker, and set a different \
         kafka.transactional_id for every worker or none"
    )]
    Fenced {
        /// The transactional id.
        id: String,
    },
    /// Another replay of the same dead letters fenced this one.
    #[error(
        "another replay of {topic} began and fenced this one, or this one was too slow; dead \
         letters that it sent stay sent, and none is sent twice"
    )]
    Superseded {
        /// The dead-letter topic.
        topic: String,
    },
    /// A record of an output topic was not written by this service.
    #[error("the record at {location} is not an answer of this service: {reason}")]
    Foreign {
        /// Topic, partition and offset of the record.
        location: String,
        /// The reason why it cannot be parsed as an answer.
        reason: String,
    },
    /// No broker was reachable for `kafka.exit_after_broker_loss`.
    #[error("no broker could be reached for {0}")]
    BrokersLost(humantime::FormattedDuration),
    /// The engine lost its device.
    #[error("{message} ({code}); restart the worker")]
    EngineLost {
        /// The stable error code of the failure.
        code: &'static str,
        /// The message of the failure.
        message: String,
    },
    /// A thread or task of the worker ended unexpectedly.
    #[error("{0}; this is a bug")]
    Bug(String),
}
