//! Time and memory measurements for the benchmarks of the networks.

use std::time::Instant;

/// Returns the seconds of each of `runs` runs.
pub(crate) fn times(runs: usize, mut work: impl FnMut()) -> Vec<f64> {
    let time = || {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    std::iter::repeat_with(time).take(runs).collect()
}

/// Returns the median; of an even number of values, the larger of the two middle ones.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the peak resident memory of this process in MiB, as Linux reports it.
pub(crate) fn peak_mib() -> u64 {
    status_mib("VmHWM")
}

/// Returns a field of this process's status in MiB.
pub(crate) fn status_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
