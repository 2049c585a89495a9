//! Decides which offsets may be committed: never one before every earlier record is answered.
//!
//! [`tracker`] is the pure state machine. [`partitions`] shares it between threads behind a lock
//! and cancels the tasks of a revoked partition.
//!
//! This folder imports nothing else of this crate.

pub(crate) mod partitions;
pub(crate) mod tracker;
