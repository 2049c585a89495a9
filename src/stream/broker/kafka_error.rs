//! The one classification of Kafka errors: the meaning of each code for this service, and its
//! message.
//!
//! Uses librdkafka's codes and [`StreamError`], but no client.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::stream::error::StreamError;
use crate::stream::properties::is_secret;

/// Wait for room in a producer's full queue.
pub(crate) const QUEUE_FULL_WAIT: Duration = Duration::from_millis(5);

/// The response to a failed send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendVerdict {
    /// Wait for room in the queue, then send again.
    QueueFull,
    /// Send a smaller record.
    TooLarge,
    /// Send the same record again.
    Transient,
    /// Stop: sending again would not help.
    Permanent,
}

/// The response to an error of the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadVerdict {
    /// Wait: librdkafka repairs it by itself.
    Transient,
    /// Report it and wait: the worker is not ready while it repeats.
    Unexpected,
    /// Wait until the topic exists; the worker is not ready.
    InputMissing,
    /// Wait, not ready, and stop if it lasts: the group has members of another kind.
    Inconsistent,
    /// Stop: records cannot be decompressed or parsed, and librdkafka would stay before them.
    Unreadable,
    /// Stop: an access list denies the request.
    Forbidden,
    /// Stop: the brokers refuse the configuration of this member.
    Refused,
}

/// Returns the code of an error; `Unknown` if it has none.
pub(crate) fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}

/// Returns true if an access list denies the request.
pub(crate) fn is_forbidden(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
    )
}

/// Returns true if another member of the group uses the same `group.instance.id`.
pub(crate) fn is_duplicate_instance(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::UnreleasedInstanceId)
}

/// Returns true if another producer took over the transactional id.
pub(crate) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::ProducerFenced
    )
}

/// Returns true if a send failed only because another record of its transaction failed.
pub(crate) fn is_consequence(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::State
    )
}

/// Returns true if the topic does not exist.
pub(crate) fn is_unknown_topic(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
}

/// Classifies the error of a consumer. A code that is not listed is unexpected: it is logged and
/// makes the worker not ready, because a partition may have stopped.
pub(crate) fn read_verdict(code: RDKafkaErrorCode) -> ReadVerdict {
    match code {
        RDKafkaErrorCode::BadCompression
        | RDKafkaErrorCode::BadMessage
        | RDKafkaErrorCode::InvalidMessage
        | RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::NotImplemented
        | RDKafkaErrorCode::UnsupportedCompressionType => ReadVerdict::Unreadable,
        RDKafkaErrorCode::InconsistentGroupProtocol => ReadVerdict::Inconsistent,
        RDKafkaErrorCode::AutoOffsetReset
        | RDKafkaErrorCode::InvalidConfig
        | RDKafkaErrorCode::InvalidGroupId
        | RDKafkaErrorCode::InvalidSessionTimeout
        | RDKafkaErrorCode::InvalidTopic
        | RDKafkaErrorCode::UnsupportedAssignor
        | RDKafkaErrorCode::UnsupportedFeature
        | RDKafkaErrorCode::UnsupportedVersion => ReadVerdict::Refused,
        code if is_forbidden(code) => ReadVerdict::Forbidden,
        code if is_unknown_topic(code) => ReadVerdict::InputMissing,
        // Credentials and certificates were accepted at the start, and may be valid again soon.
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SSL
        | RDKafkaErrorCode::SaslAuthenticationFailed => ReadVerdict::Transient,
        code if is_transient_read(code) => ReadVerdict::Transient,
        _ => ReadVerdict::Unexpected,
    }
}

/// Returns true if a read failed for a reason that librdkafka repairs by itself. Refused
/// credentials are not one of them.
pub(crate) fn is_transient_read(code: RDKafkaErrorCode) -> bool {
    is_transient_connection(code)
        || matches!(
            code,
            RDKafkaErrorCode::AssignmentLost
                | RDKafkaErrorCode::BrokerNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::FencedMemberEpoch
                | RDKafkaErrorCode::FetchSessionIdNotFound
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::InvalidFetchSessionEpoch
                | RDKafkaErrorCode::KafkaStorageError
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::MemberIdRequired
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::OffsetNotAvailable
                | RDKafkaErrorCode::PollExceeded
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::ReplicaNotAvailable
                | RDKafkaErrorCode::StaleMemberEpoch
                | RDKafkaErrorCode::ThrottlingQuotaExceeded
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::UnknownTopicId
                | RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::WaitingForCoordinator
        )
}

/// Returns true for errors of a connection. A loss of all connections shows in the statistics.
fn is_transient_connection(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerDestroy
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::DestroyBroker
            | RDKafkaErrorCode::NetworkException
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::TimedOutQueue
    )
}

/// Classifies the error of a send. Codes that are not known to be transient are permanent: a clear
/// error is better than a partition that waits indefinitely.
pub(crate) fn send_verdict(error: &KafkaError) -> SendVerdict {
    match code_of(error) {
        RDKafkaErrorCode::QueueFull => SendVerdict::QueueFull,
        RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::InvalidMessageSize
        | RDKafkaErrorCode::MessageBatchTooLarge => SendVerdict::TooLarge,
        RDKafkaErrorCode::MessageTimedOut
        | RDKafkaErrorCode::TimedOutQueue
        | RDKafkaErrorCode::OperationTimedOut
        | RDKafkaErrorCode::RequestTimedOut
        | RDKafkaErrorCode::BrokerTransportFailure
        | RDKafkaErrorCode::AllBrokersDown
        | RDKafkaErrorCode::BrokerDestroy
        | RDKafkaErrorCode::Resolve
        | RDKafkaErrorCode::ISRInsufficient
        | RDKafkaErrorCode::LeaderNotAvailable
        | RDKafkaErrorCode::NotLeaderForPartition
        | RDKafkaErrorCode::BrokerNotAvailable
        | RDKafkaErrorCode::ReplicaNotAvailable
        | RDKafkaErrorCode::NetworkException
        | RDKafkaErrorCode::NotEnoughReplicas
        | RDKafkaErrorCode::NotEnoughReplicasAfterAppend
        | RDKafkaErrorCode::KafkaStorageError
        | RDKafkaErrorCode::Retry => SendVerdict::Transient,
        _ => SendVerdict::Permanent,
    }
}

/// Maps a permanent send error to the error that stops the worker; a fatal client error wins.
pub(crate) fn permanent_send_error(
    fatal: Option<(RDKafkaErrorCode, String)>,
    topic: &str,
    error: KafkaError,
) -> StreamError {
    if let Some((_, reason)) = fatal {
        return StreamError::Fatal(reason);
    }
    match code_of(&error) {
        code if is_forbidden(code) => {
            StreamError::Forbidden { action: format!("write to topic {topic}"), code }
        }
        RDKafkaErrorCode::InvalidRecord => StreamError::Configuration(format!(
            "topic {topic} refuses a record as invalid: its configuration limits timestamps or \
             formats (see its message.timestamp.* settings), or the brokers validate records"
        )),
        code if is_unknown_topic(code) => StreamError::MissingTopics(format!(
            "topic {topic} no longer exists; if it was deleted, create it again and start the worker"
        )),
        _ => StreamError::Publish { topic: topic.to_owned(), reason: error },
    }
}

/// Returns the metric label of a failed commit: a name for each code with a known cause, `other`
/// for the rest.
pub(crate) fn commit_failure_label(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::RebalanceInProgress => "rebalance_in_progress",
        RDKafkaErrorCode::StaleMemberEpoch => "stale_member_epoch",
        RDKafkaErrorCode::IllegalGeneration => "illegal_generation",
        RDKafkaErrorCode::UnknownMemberId => "unknown_member_id",
        RDKafkaErrorCode::NotCoordinator => "not_coordinator",
        RDKafkaErrorCode::WaitingForCoordinator => "waiting_for_coordinator",
        RDKafkaErrorCode::BrokerTransportFailure => "transport",
        RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut => "timed_out",
        RDKafkaErrorCode::FencedInstanceId => "fenced_instance_id",
        code if is_forbidden(code) => "forbidden",
        _ => "other",
    }
}

/// Maps an error of creating a client to the setting at fault. Never repeats a secret value, which
/// librdkafka's own error does.
pub(crate) fn configuration_error(error: &KafkaError) -> StreamError {
    let text = match error {
        KafkaError::ClientConfig(_, _, name, _) if is_secret(name) => {
            format!("librdkafka refuses the value of {name} (not shown, it is a secret)")
        }
        KafkaError::ClientConfig(_, reason, name, _) => {
            format!("librdkafka refuses {name}: {reason}; correct it in kafka.properties")
        }
        other => format!("librdkafka refuses the configuration: {other}; see kafka.properties"),
    };
    StreamError::Configuration(text)
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    fn failed_send(code: RDKafkaErrorCode) -> KafkaError {
        KafkaError::MessageProduction(code)
    }

    #[test]
    fn a_send_error_is_classified_by_its_remedy() {
        for (code, expected) in [
            (RDKafkaErrorCode::QueueFull, SendVerdict::QueueFull),
            (RDKafkaErrorCode::MessageSizeTooLarge, SendVerdict::TooLarge),
            (RDKafkaErrorCode::MessageTimedOut, SendVerdict::Transient),
            (RDKafkaErrorCode::NotEnoughReplicas, SendVerdict::Transient),
            (RDKafkaErrorCode::TopicAuthorizationFailed, SendVerdict::Permanent),
            (RDKafkaErrorCode::UnknownTopic, SendVerdict::Permanent),
            (RDKafkaErrorCode::Fatal, SendVerdict::Permanent),
        ] {
            assert_eq!(send_verdict(&failed_send(code)), expected, "{code}");
        }
        assert_eq!(send_verdict(&KafkaError::Canceled), SendVerdict::Permanent, "no code");
    }

    #[test]
    fn a_read_error_is_classified_by_its_remedy_and_an_unknown_one_is_unexpected() {
        for (code, expected) in [
            (RDKafkaErrorCode::BadCompression, ReadVerdict::Unreadable),
            (RDKafkaErrorCode::BadMessage, ReadVerdict::Unreadable),
            (RDKafkaErrorCode::InconsistentGroupProtocol, ReadVerdict::Inconsistent),
            (RDKafkaErrorCode::UnsupportedVersion, ReadVerdict::Refused),
            (RDKafkaErrorCode::TopicAuthorizationFailed, ReadVerdict::Forbidden),
            (RDKafkaErrorCode::UnknownTopicOrPartition, ReadVerdict::InputMissing),
            (RDKafkaErrorCode::AllBrokersDown, ReadVerdict::Transient),
            (RDKafkaErrorCode::NotCoordinator, ReadVerdict::Transient),
            (RDKafkaErrorCode::SaslAuthenticationFailed, ReadVerdict::Transient),
            (RDKafkaErrorCode::Unknown, ReadVerdict::Unexpected),
            (RDKafkaErrorCode::GroupMaxSizeReached, ReadVerdict::Unexpected),
        ] {
            assert_eq!(read_verdict(code), expected, "{code}");
        }
    }

    #[test]
    fn each_code_has_one_meaning() {
        type Test = fn(RDKafkaErrorCode) -> bool;
        let tests: [(&str, Test); 6] = [
            ("forbidden", is_forbidden),
            ("duplicate instance", is_duplicate_instance),
            ("fenced", is_fenced),
            ("consequence", is_consequence),
            ("unknown topic", is_unknown_topic),
            ("transient read", is_transient_read),
        ];
        for (code, meaning) in [
            (RDKafkaErrorCode::TopicAuthorizationFailed, Some("forbidden")),
            (RDKafkaErrorCode::GroupAuthorizationFailed, Some("forbidden")),
            (RDKafkaErrorCode::ClusterAuthorizationFailed, Some("forbidden")),
            (RDKafkaErrorCode::TransactionalIdAuthorizationFailed, Some("forbidden")),
            (RDKafkaErrorCode::FencedInstanceId, Some("duplicate instance")),
            (RDKafkaErrorCode::UnreleasedInstanceId, Some("duplicate instance")),
            (RDKafkaErrorCode::Fenced, Some("fenced")),
            (RDKafkaErrorCode::ProducerFenced, Some("fenced")),
            (RDKafkaErrorCode::InvalidProducerEpoch, Some("fenced")),
            (RDKafkaErrorCode::PurgeQueue, Some("consequence")),
            (RDKafkaErrorCode::PurgeInflight, Some("consequence")),
            (RDKafkaErrorCode::State, Some("consequence")),
            (RDKafkaErrorCode::UnknownTopic, Some("unknown topic")),
            (RDKafkaErrorCode::UnknownTopicOrPartition, Some("unknown topic")),
            (RDKafkaErrorCode::AllBrokersDown, Some("transient read")),
            (RDKafkaErrorCode::Resolve, Some("transient read")),
            (RDKafkaErrorCode::RebalanceInProgress, Some("transient read")),
            (RDKafkaErrorCode::Authentication, None),
            (RDKafkaErrorCode::BadCompression, None),
            (RDKafkaErrorCode::Unknown, None),
        ] {
            let meanings: Vec<_> =
                tests.iter().filter(|(_, test)| test(code)).map(|(name, _)| *name).collect();
            assert_eq!(meanings, Vec::from_iter(meaning), "{code}");
        }
    }

    #[test]
    fn a_permanent_send_error_names_the_topic_unless_the_client_is_dead() {
        let denied = || failed_send(RDKafkaErrorCode::TopicAuthorizationFailed);
        let error = permanent_send_error(None, "events", denied());
        assert!(error.to_string().contains("permission to write to topic events"), "{error}");
        let error = permanent_send_error(None, "events", failed_send(RDKafkaErrorCode::Unknown));
        assert!(matches!(error, StreamError::Publish { .. }), "{error}");
        let fatal = Some((RDKafkaErrorCode::Fatal, "out of order".to_owned()));
        let error = permanent_send_error(fatal, "events", denied());
        assert!(matches!(error, StreamError::Fatal(_)), "{error}");
    }

    #[test]
    fn a_failed_commit_has_a_label_of_few_values() {
        for (code, label) in [
            (RDKafkaErrorCode::RebalanceInProgress, "rebalance_in_progress"),
            (RDKafkaErrorCode::OperationTimedOut, "timed_out"),
            (RDKafkaErrorCode::RequestTimedOut, "timed_out"),
            (RDKafkaErrorCode::GroupAuthorizationFailed, "forbidden"),
            (RDKafkaErrorCode::NoOffset, "other"),
        ] {
            assert_eq!(commit_failure_label(code), label, "{code}");
        }
    }

    #[test]
    fn a_rejected_value_is_reported_with_its_name_unless_it_is_a_secret() {
        let reject = |name, value| {
            let mut config = ClientConfig::new();
            config.set(name, value);
            let error = config.create_native_config().err().unwrap();
            configuration_error(&error).to_string()
        };
        let text = reject("linger.ms", "soon");
        assert!(text.contains("linger.ms"), "{text}");
        let text = reject("sasl.password.nonsense", "planted");
        assert!(!text.contains("planted"), "{text}");
    }
}
