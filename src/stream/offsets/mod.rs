//! Decides which offset may be committed.

pub(crate) mod partitions;
pub(crate) mod tracker;
