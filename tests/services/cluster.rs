//! Three brokers with three replicas of every topic, for the tests that kill brokers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::services::{Started, script_command};

/// Clusters that run at a time. The tests of faults mostly wait, and take turns on them.
const CLUSTERS: usize = 2;

/// The running brokers.
pub(crate) struct Cluster {
    script: Started,
    is_whole: bool,
}

/// Returns a cluster, for one test at a time: a broker's fault affects all clients.
pub(crate) fn cluster() -> MutexGuard<'static, Cluster> {
    static RUNNING: [OnceLock<Mutex<Cluster>>; CLUSTERS] = [const { OnceLock::new() }; CLUSTERS];
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let start = || {
        let nodes = Cluster::NODES.to_string();
        let script = Started::by("kafka.sh", &["--brokers", &nodes]);
        Mutex::new(Cluster { script, is_whole: true })
    };
    let free = RUNNING.iter().find_map(|cluster| cluster.get_or_init(start).try_lock().ok());
    let guard = free.unwrap_or_else(|| {
        let cluster = &RUNNING[TURN.fetch_add(1, Ordering::Relaxed) % CLUSTERS];
        cluster.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
    });
    assert!(guard.is_whole, "an earlier test failed while brokers were down");
    guard
}

impl Cluster {
    pub(crate) const NODES: i32 = 3;

    pub(crate) fn bootstrap_servers(&self) -> &str {
        self.script.value("KAFKA_BOOTSTRAP").unwrap()
    }

    /// Kills brokers (SIGKILL).
    pub(crate) fn kill(&mut self, nodes: &[i32]) {
        self.is_whole = false;
        self.run_script("kill", nodes.iter().map(i32::to_string));
    }

    /// Restarts brokers. Returns when they accept connections.
    pub(crate) fn revive(&mut self, nodes: &[i32]) {
        self.run_script("revive", nodes.iter().map(i32::to_string));
        self.is_whole = true;
    }

    /// Limits the clients with this id to `bytes` per second to each broker.
    pub(crate) fn throttle(&self, client: &str, bytes: u32) {
        self.run_script("quota", [client.to_owned(), bytes.to_string()]);
    }

    fn run_script(&self, subcommand: &str, arguments: impl IntoIterator<Item = String>) {
        let folder = self.script.value("KAFKA_DIR").unwrap();
        let status = script_command("kafka.sh", subcommand).arg(folder).args(arguments).status();
        assert!(status.unwrap().success(), "kafka.sh {subcommand} failed");
    }
}
