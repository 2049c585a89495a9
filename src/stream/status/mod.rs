//! The status of a worker, reported by its parts: the first fatal error, counts, readiness.
//!
//! May import `error`.

pub(crate) mod counts;
pub(crate) mod dead_letter_log;
pub(crate) mod fault;
pub(crate) mod trouble;
pub(crate) mod vitals;
