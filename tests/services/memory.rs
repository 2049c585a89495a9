//! Memory is bounded by configuration, not by the backlog.

use crate::process::Process;
use crate::scene::Scene;
use crate::services::{Services, announce, services};

/// References the worker answers before its memory is read.
const WORKED_THROUGH: usize = 1_000;
/// The prefetch is bounded at 8 MiB and overshoots by one fetch of each partition; the rest is the
/// allocator's noise. A worker that took in the whole backlog would stand out: librdkafka spends
/// half a kilobyte on each record, 50 MB in all.
const TOLERANCE_KIB: u64 = 32 * 1024;

#[test]
fn the_memory_is_the_same_whether_a_thousand_or_a_hundred_thousand_references_wait() {
    let Some(services) = services() else { return };
    let short_kib = peak_kib(services, "short-backlog", 1_000);
    let long_kib = peak_kib(services, "long-backlog", 100_000);
    announce(&format!(
        "memory: {} MiB with 1,000 references waiting, {} MiB with 100,000",
        short_kib / 1024,
        long_kib / 1024
    ));
    assert!(
        long_kib < short_kib + TOLERANCE_KIB,
        "{short_kib} KiB with 1,000 references waiting, {long_kib} KiB with 100,000"
    );
}

/// The most memory a worker had when it had worked through the head of a backlog.
fn peak_kib(services: &'static Services, name: &'static str, waiting: usize) -> u64 {
    let scene = Scene::new(services, name, 3);
    scene.publish_references(waiting);
    let worker = scene.start_worker("the worker", &[]);
    scene.oracle().read_until_answered(WORKED_THROUGH, &[&worker]);
    let peak_kib = high_water_mark_kib(&worker);
    worker.kill();
    peak_kib
}

/// `VmHWM`: the largest resident set the process ever had.
fn high_water_mark_kib(worker: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
