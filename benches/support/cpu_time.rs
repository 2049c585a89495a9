//! CPU time of a thread, for benchmarks on one core.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Returns the CPU time of this thread, so that other processes disturb the figures little. On
/// systems other than Linux, returns elapsed time.
pub(crate) fn cpu_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match statistics.split(' ').next().map(str::parse) {
        Some(Ok(nanoseconds)) => Duration::from_nanos(nanoseconds),
        _ => START.get_or_init(Instant::now).elapsed(),
    }
}
