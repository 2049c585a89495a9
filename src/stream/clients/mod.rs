//! Readers and writers outside the consumer group.

pub(crate) mod companion;
pub(crate) mod topic_reader;
