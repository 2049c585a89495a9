//! Three brokers that hold every topic three times, for the tests that take some of them away.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::services::{Started, script_command};

/// The running brokers.
pub(crate) struct Cluster {
    script: Started,
    is_whole: bool,
}

/// The cluster, for one test at a time: what is done to a broker is felt by everybody on it.
pub(crate) fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        let nodes = Cluster::NODES.to_string();
        let script = Started::by("kafka.sh", &["--brokers", &nodes]);
        Mutex::new(Cluster { script, is_whole: true })
    });
    let guard = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(guard.is_whole, "an earlier test failed while brokers were away");
    guard
}

impl Cluster {
    pub(crate) const NODES: i32 = 3;

    pub(crate) fn bootstrap_servers(&self) -> &str {
        self.script.value("KAFKA_BOOTSTRAP").unwrap()
    }

    /// Ends brokers at once (SIGKILL).
    pub(crate) fn kill(&mut self, nodes: &[i32]) {
        self.is_whole = false;
        self.order("kill", nodes.iter().map(i32::to_string));
    }

    /// Starts brokers again; returns when they serve.
    pub(crate) fn revive(&mut self, nodes: &[i32]) {
        self.order("revive", nodes.iter().map(i32::to_string));
        self.is_whole = true;
    }

    /// Lets clients of this id write only so many bytes in a second to each broker.
    pub(crate) fn throttle(&self, client: &str, bytes: u32) {
        self.order("quota", [client.to_owned(), bytes.to_string()]);
    }

    fn order(&self, subcommand: &str, arguments: impl IntoIterator<Item = String>) {
        let folder = self.script.value("KAFKA_DIR").unwrap();
        let status = script_command("kafka.sh", subcommand).arg(folder).args(arguments).status();
        assert!(status.unwrap().success(), "kafka.sh {subcommand} failed");
    }
}
