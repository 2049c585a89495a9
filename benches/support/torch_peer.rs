//! A peer that waits for work: a script of `benches/peers` in a process of its own.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// PyTorch in its own process, which waits while ours runs.
pub(crate) struct TorchPeer {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl TorchPeer {
    /// Starts a script with these arguments and the number of threads. Returns when its network is
    /// built.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(script);
        let threads = std::thread::available_parallelism().unwrap().to_string();
        let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut process = Command::new(python)
            .arg(script)
            .args(arguments)
            .arg(threads)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the peer did not start");
        Self { process, answers }
    }

    /// Returns the seconds of one run of the work that a line names.
    pub(crate) fn seconds(&mut self, work: &str) -> f64 {
        writeln!(self.process.stdin.as_mut().unwrap(), "{work}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().parse().unwrap_or_else(|_| panic!("the peer failed: {line}"))
    }
}

impl Drop for TorchPeer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}
