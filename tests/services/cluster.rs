//! Three brokers with three replicas of every topic, for the tests that kill brokers.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::services::{Started, script_command};

/// The running brokers.
pub(crate) struct Cluster {
    script: Started,
    is_whole: bool,
}

/// Returns the cluster, for one test at a time: a broker's fault affects all clients.
pub(crate) fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        let nodes = Cluster::NODES.to_string();
        let script = Started::by("kafka.sh", &["--brokers", &nodes]);
        Mutex::new(Cluster { script, is_whole: true })
    });
    let guard = cluster.lock().unwrap_or_else(PoisonError::into_inner);
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
