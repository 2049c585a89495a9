//! The status of a worker, reported by its parts: the first fatal error, counts, readiness.
//!
//! May import `error`.

pub(crate) mod counts;
pub(crate) mod fault;
pub(crate) mod vitals;
