//! The polling thread: consume, rebalance, back-pressure, lag, readiness.

pub(crate) mod backpressure;
pub(crate) mod lag;
pub(crate) mod polling;
pub(crate) mod readiness;
pub(crate) mod rebalance;
