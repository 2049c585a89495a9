//! What the benchmarks of networks share.

use std::time::Instant;

/// Seconds of each of some runs.
pub(crate) fn times(runs: usize, mut work: impl FnMut()) -> Vec<f64> {
    let time = || {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    std::iter::repeat_with(time).take(runs).collect()
}

/// The middle of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Most memory that this process has held, as Linux counts it, in MiB.
pub(crate) fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
