//! The real parts: started once for this test binary, ended by the scripts when it ends.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Apache Kafka and the S3 server, as their scripts describe them.
pub(crate) struct Services {
    values: BTreeMap<String, String>,
    /// A script stops its service when its standard input closes, which the end of this process
    /// brings about.
    scripts: Vec<Child>,
}

impl Services {
    /// A value that one of the scripts printed, by its name without `DOGIQA_`.
    pub(crate) fn value(&self, name: &str) -> &str {
        let value = self.values.get(&format!("DOGIQA_{name}"));
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
    let mut services = Services { values: BTreeMap::new(), scripts: Vec::new() };
    for script in ["kafka.sh", "s3.sh"] {
        start(script, &mut services);
    }
    Some(services)
}

/// Starts one service; the script closes its standard output when the service is ready.
fn start(script: &str, services: &mut Services) {
    let mut child = script_command(script, "run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{script} does not start: {error}"));
    let mut printed = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut printed).unwrap();
    let pairs = printed.lines().filter_map(|line| line.split_once('='));
    services.values.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    services.scripts.push(child);
    assert!(!printed.is_empty(), "{script} did not start its service; its reason stands above");
}

fn script_command(script: &str, subcommand: &str) -> Command {
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
