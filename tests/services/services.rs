//! The real parts: started once for this test binary, ended by the scripts when it ends.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use crate::certificates;

/// What a script of this folder started. It stops when the script's standard input closes, which the end of this
/// process brings about.
pub(crate) struct Started {
    values: BTreeMap<String, String>,
    _script: Child,
}

impl Started {
    /// Starts a service; the script closes its standard output when the service is ready.
    pub(crate) fn by(script: &str, arguments: &[&str]) -> Self {
        let mut child = script_command(script, "run")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{script} does not start: {error}"));
        let mut printed = String::new();
        child.stdout.take().expect("it is piped").read_to_string(&mut printed).unwrap();
        assert!(!printed.is_empty(), "{script} did not start its service; its reason stands above");
        let pairs = printed.lines().filter_map(|line| line.split_once('='));
        let values = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { values, _script: child }
    }

    /// A value that the script printed, by its name without `DOGIQA_`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(&format!("DOGIQA_{name}")).map(String::as_str)
    }
}

/// Apache Kafka, one node, and the S3 server.
pub(crate) struct Services {
    kafka: Started,
    s3: Arc<Started>,
}

impl Services {
    /// A value that one of the scripts printed, by its name without `DOGIQA_`.
    pub(crate) fn value(&self, name: &str) -> &str {
        let value = self.kafka.value(name).or_else(|| self.s3.value(name));
        value.unwrap_or_else(|| panic!("no script printed DOGIQA_{name}"))
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        self.value("KAFKA_BOOTSTRAP")
    }
}

/// The running services, or nothing when this machine cannot have them and may do without.
///
/// `DOGIQA_SERVICES=required` makes a machine that lacks a part a failure, `DOGIQA_SERVICES=off`
/// skips the tests of this binary.
pub(crate) fn services() -> Option<&'static Services> {
    static SERVICES: OnceLock<Option<Services>> = OnceLock::new();
    SERVICES.get_or_init(start_all).as_ref()
}

/// The same with a broker of its own, which also listens with TLS.
pub(crate) fn secured() -> Option<&'static Services> {
    static SECURED: OnceLock<Option<Services>> = OnceLock::new();
    let start_secured = || {
        if cfg!(not(feature = "tls")) {
            announce("built without the feature `tls`: skipping the tests of TLS to Kafka");
            return None;
        }
        let s3 = Arc::clone(&services()?.s3);
        let folder = tempfile::TempDir::new().unwrap();
        certificates::write(folder.path());
        let folder = folder.path().to_str().unwrap();
        Some(Services { kafka: Started::by("kafka.sh", &["--certificates", folder]), s3 })
    };
    SECURED.get_or_init(start_secured).as_ref()
}

fn start_all() -> Option<Services> {
    let wish = std::env::var_os("DOGIQA_SERVICES").unwrap_or_default();
    if wish == "off" {
        announce("DOGIQA_SERVICES=off: skipping the tests against real services");
        return None;
    }
    for script in ["kafka.sh", "s3.sh"] {
        let output = script_command(script, "available").output().unwrap();
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            assert!(wish != "required", "DOGIQA_SERVICES=required, but {reason}");
            announce(&format!("skipping the tests against real services: {}", reason.trim()));
            return None;
        }
    }
    let s3 = Arc::new(Started::by("s3.sh", &[]));
    Some(Services { kafka: Started::by("kafka.sh", &[]), s3 })
}

/// A script of this folder with one of its subcommands.
pub(crate) fn script_command(script: &str, subcommand: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services");
    let mut command = Command::new(folder.join(script));
    command.arg(subcommand).stdin(Stdio::null());
    command
}

/// Tells the reader of the run, past the test runner's capture, which hides what a passing test
/// prints.
pub(crate) fn announce(message: &str) {
    drop(writeln!(std::io::stderr(), "{message}"));
}
