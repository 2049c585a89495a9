//! Kafka and S3, started once for this test binary. The scripts stop them when the binary exits.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use crate::certificates;

/// A service that a script of this folder started. The script stops it when its standard input
/// closes, which happens when this process exits.
pub(crate) struct Started {
    values: BTreeMap<String, String>,
    _script: Child,
}

impl Started {
    /// Starts a service and waits until the script closes its standard output: the service is
    /// ready.
    pub(crate) fn by(script: &str, arguments: &[&str]) -> Self {
        let mut child = script_command(script, "run")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{script} does not start: {error}"));
        let mut printed = String::new();
        child.stdout.take().expect("it is piped").read_to_string(&mut printed).unwrap();
        assert!(
            !printed.is_empty(),
            "{script} did not start its service; its output above has the reason"
        );
        let pairs = printed.lines().filter_map(|line| line.split_once('='));
        let values = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { values, _script: child }
    }

    /// Returns a value that the script printed, by its name without `DOGIQA_`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(&format!("DOGIQA_{name}")).map(String::as_str)
    }
}

/// Apache Kafka with one broker, and the S3 server.
pub(crate) struct Services {
    kafka: Started,
    s3: Arc<Started>,
}

impl Services {
    /// Returns a value that one of the scripts printed, by its name without `DOGIQA_`.
    pub(crate) fn value(&self, name: &str) -> &str {
        let value = self.kafka.value(name).or_else(|| self.s3.value(name));
        value.unwrap_or_else(|| panic!("no script printed DOGIQA_{name}"))
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        self.value("KAFKA_BOOTSTRAP")
    }
}

/// Returns the running services. Returns `None` if this machine cannot run them, and prints the
/// reason.
///
/// With `DOGIQA_SERVICES=required` a missing program is a failure. `DOGIQA_SERVICES=off` skips the
/// tests of this binary.
pub(crate) fn services() -> Option<&'static Services> {
    static SERVICES: OnceLock<Option<Services>> = OnceLock::new();
    SERVICES.get_or_init(start_all).as_ref()
}

/// Returns the S3 server and a second broker, which also has TLS listeners.
pub(crate) fn secured() -> Option<&'static Services> {
    static SECURED: OnceLock<Option<Services>> = OnceLock::new();
    let start = || {
        if cfg!(not(feature = "tls")) {
            announce("built without the feature `tls`: skipping the tests of TLS to Kafka");
            return None;
        }
        Some(start_secured(Arc::clone(&services()?.s3)))
    };
    SECURED.get_or_init(start).as_ref()
}

/// Returns the S3 server and a broker with TLS listeners, for the test that changes its password.
pub(crate) fn rotating() -> Option<&'static Services> {
    static ROTATING: OnceLock<Option<Services>> = OnceLock::new();
    let start = || {
        if cfg!(not(feature = "tls")) {
            announce("built without the feature `tls`: skipping the tests of TLS to Kafka");
            return None;
        }
        Some(start_secured(Arc::clone(&services()?.s3)))
    };
    ROTATING.get_or_init(start).as_ref()
}

fn start_secured(s3: Arc<Started>) -> Services {
    let folder = tempfile::TempDir::new().unwrap();
    certificates::write(folder.path());
    let folder = folder.path().to_str().unwrap();
    Services { kafka: Started::by("kafka.sh", &["--certificates", folder]), s3 }
}

fn start_all() -> Option<Services> {
    let requested = std::env::var_os("DOGIQA_SERVICES").unwrap_or_default();
    if requested == "off" {
        announce("DOGIQA_SERVICES=off: skipping the tests against real services");
        return None;
    }
    if !["kafka.sh", "s3.sh"].into_iter().all(is_available) {
        return None;
    }
    let s3 = Arc::new(Started::by("s3.sh", &[]));
    Some(Services { kafka: Started::by("kafka.sh", &[]), s3 })
}

/// Returns true if this machine can run the service of a script. Otherwise prints the reason, or
/// panics with it if the services are required.
pub(crate) fn is_available(script: &str) -> bool {
    let output = script_command(script, "available").output().unwrap();
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        let is_required = std::env::var_os("DOGIQA_SERVICES").is_some_and(|it| it == "required");
        assert!(!is_required, "DOGIQA_SERVICES=required, but {reason}");
        announce(&format!("skipping the tests against real services: {}", reason.trim()));
    }
    output.status.success()
}

/// Returns a command for a subcommand of a script of this folder.
pub(crate) fn script_command(script: &str, subcommand: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services");
    let mut command = Command::new(folder.join(script));
    command.arg(subcommand).stdin(Stdio::null());
    command
}

/// Prints a line to standard error. The test runner does not capture it, as it does with
/// `eprintln!`.
pub(crate) fn announce(message: &str) {
    drop(writeln!(std::io::stderr(), "{message}"));
}
