//! The reasons why a worker is not ready. `/readyz`, the log and `docs/operations.md` name them.

/// A reason why a worker is not ready, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The worker is stopping.
    Stopping,
    /// No connection to a broker is up.
    BrokersUnreachable,
    /// The group has members with another assignment strategy or protocol.
    GroupInconsistent,
    /// Another member holds the static name of this worker.
    InstanceHeld,
    /// Commits fail.
    CommitsFail,
    /// The input topic does not exist.
    InputMissing,
    /// The consumer reports an error that this service does not expect.
    ReadsFail,
    /// A partition has lag, but no records are received.
    PartitionSilent,
    /// Output records failed and are sent again.
    AnswersWaiting,
    /// References are held through the outage of a store.
    StoreUnavailable,
    /// References are held through the outage of the scoring server.
    ServerUnavailable,
}

impl Trouble {
    /// Returns the stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::BrokersUnreachable => "brokers_unreachable",
            Self::GroupInconsistent => "group_inconsistent",
            Self::InstanceHeld => "instance_held",
            Self::CommitsFail => "commits_fail",
            Self::InputMissing => "input_missing",
            Self::ReadsFail => "reads_fail",
            Self::PartitionSilent => "partition_silent",
            Self::AnswersWaiting => "answers_waiting",
            Self::StoreUnavailable => "store_unavailable",
            Self::ServerUnavailable => "server_unavailable",
        }
    }

    /// Returns the reason in words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Stopping => "the worker is stopping",
            Self::BrokersUnreachable => "no broker can be reached",
            Self::GroupInconsistent => "members of the group use another assignment strategy",
            Self::InstanceHeld => "another member holds kafka.group_instance_id",
            Self::CommitsFail => "offsets cannot be committed",
            Self::InputMissing => "the input topic no longer exists",
            Self::ReadsFail => "the consumer reports an unexpected error",
            Self::PartitionSilent => "a partition has lag, but no records are received",
            Self::AnswersWaiting => "answers cannot be published and are being sent again",
            Self::StoreUnavailable => "a store is unavailable; its references are held",
            Self::ServerUnavailable => "the scoring server is unavailable; references are held",
        }
    }

    /// Returns true if the reason counts only after `kafka.unready_after`, because it is usually
    /// brief.
    pub(crate) fn has_grace(self) -> bool {
        matches!(self, Self::BrokersUnreachable | Self::CommitsFail)
    }
}
