//! Why the worker ends, told apart by what an operator does about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The end of a worker that is not a graceful stop. Nothing that was unanswered is committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// A setting contradicts the worker's promises, or librdkafka refuses it.
    #[error("{0}")]
    Configuration(String),
    /// No broker answered at the start.
    #[error(
        "no broker of kafka.bootstrap_servers = {brokers} answered within {waited}: {reason}; check the \
         address and that the brokers are up"
    )]
    Unreachable {
        /// The configured addresses.
        brokers: String,
        /// How long was tried.
        waited: humantime::FormattedDuration,
        /// librdkafka's last word.
        reason: String,
    },
    /// The brokers refuse who we are, or we refuse who they are.
    #[error("{0}")]
    Security(String),
    /// Topics that the worker reads or writes do not exist.
    #[error("{0}")]
    MissingTopics(String),
    /// An access list forbids what the worker has to do.
    #[error(
        "the brokers forbid to {action} ({code}); grant this worker's principal that operation"
    )]
    Forbidden {
        /// What was tried: `read the topic …`, `commit offsets of the group …`.
        action: String,
        /// librdkafka's name of the error.
        code: RDKafkaErrorCode,
    },
    /// The output cannot be written, and trying again would not help.
    #[error("cannot write to topic {topic}: {reason}; the record stays uncommitted")]
    Publish {
        /// The output topic.
        topic: String,
        /// librdkafka's answer.
        reason: KafkaError,
    },
    /// A topic that is only looked at cannot be read.
    #[error("topic {topic} cannot be read: {reason}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// librdkafka's answer.
        reason: KafkaError,
    },
    /// librdkafka declared its client dead.
    #[error("the Kafka client cannot go on: {0}; restart the worker")]
    Fatal(String),
    /// Two workers run with one `kafka.group_instance_id`.
    #[error(
        "another member of group {group} uses the same kafka.group_instance_id; give every worker \
         its own"
    )]
    DuplicateInstance {
        /// The consumer group.
        group: String,
    },
    /// The brokers no longer take this worker's transactions.
    #[error(
        "the transactional id {id} belongs to somebody else: another worker uses it, or this one was away for too \
         long; restart the worker, and give every worker its own kafka.transactional_id or none"
    )]
    Fenced {
        /// The id.
        id: String,
    },
    /// A second replay of the same dead letters began.
    #[error(
        "another replay of {topic} began and took over, or this one was too slow; what it had sent stays sent, and nothing \
         is sent twice"
    )]
    Superseded {
        /// The dead-letter topic.
        topic: String,
    },
    /// A record of an output topic that this service did not write.
    #[error("the record at {place} is no answer of this service: {reason}")]
    Foreign {
        /// Topic, partition and offset.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No broker could be reached for `kafka.exit_after_broker_loss`.
    #[error("no broker could be reached for {0}")]
    BrokersLost(humantime::FormattedDuration),
    /// The engine lost its device.
    #[error("{message} ({code}); restart the worker")]
    EngineLost {
        /// The failure's stable name.
        code: &'static str,
        /// The failure's message.
        message: String,
    },
    /// A part of the worker ended that should not have.
    #[error("{0}; this is a bug")]
    Bug(String),
}
