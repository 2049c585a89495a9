//! The topic and partition to which a dead letter is replayed.

/// The destination of one replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Name of the topic.
    pub topic: String,
    /// The original partition of the record; `None` to derive the partition from the key.
    pub partition: Option<i32>,
}
