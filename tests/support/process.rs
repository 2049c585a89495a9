//! A child process under test. Reads its output line by line; dropping the guard kills the process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A running child. Dropping it kills it.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    /// True if both streams are closed: the process has exited or is about to.
    closed: bool,
}

impl Process {
    /// Starts the command and captures its standard error and standard output as the log.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stderr = child.stderr.take().expect("standard error was asked for");
        let stdout = child.stdout.take().expect("standard output was asked for");
        let log = Arc::new(Log::default());
        let (errors, results) = (Arc::clone(&log), Arc::clone(&log));
        // Both threads end when the process exits, because that closes its streams.
        let results = std::thread::spawn(move || results.read_lines(stdout));
        std::thread::spawn(move || {
            errors.read_lines(stderr);
            results.join().expect("reading lines does not panic");
            errors.state.lock().unwrap().closed = true;
            errors.changed.notify_all();
        });
        Self { name: name.to_owned(), child, log }
    }

    /// Returns all output so far.
    pub(crate) fn log(&self) -> String {
        self.log.state.lock().unwrap().lines.join("\n")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the first line of the log that contains `part`. Waits up to `limit` for it.
    pub(crate) fn wait_for_line(&self, part: &str, limit: Duration) -> String {
        let found = |state: &LogState| state.lines.iter().find(|line| line.contains(part)).cloned();
        let state = self.log.state.lock().unwrap();
        let waiting = |state: &mut LogState| found(state).is_none() && !state.closed;
        let (state, _) = self.log.changed.wait_timeout_while(state, limit, waiting).unwrap();
        let line = found(&state);
        drop(state);
        line.unwrap_or_else(|| self.fail(&format!("no log line with `{part}` within {limit:?}")))
    }

    /// Panics with the end of the log if the process has exited.
    pub(crate) fn assert_running(&self) {
        if self.log.state.lock().unwrap().closed {
            self.fail("has ended");
        }
    }

    /// Asks it to stop (SIGTERM).
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.unwrap().success(), "{} cannot be signalled", self.name);
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits up to `limit` for a successful exit.
    pub(crate) fn wait_for_success(mut self, limit: Duration) {
        let status = self.end(limit);
        if !status.success() {
            self.fail(&format!("ended with {status}"));
        }
    }

    /// Waits up to `limit` for its exit and returns the status.
    pub(crate) fn wait(mut self, limit: Duration) -> ExitStatus {
        self.end(limit)
    }

    /// Waits up to `limit` for its exit and returns the status and all output.
    pub(crate) fn finish(mut self, limit: Duration) -> (ExitStatus, String) {
        (self.end(limit), self.log())
    }

    fn end(&mut self, limit: Duration) -> ExitStatus {
        let state = self.log.state.lock().unwrap();
        let open = |state: &mut LogState| !state.closed;
        let (state, timeout) = self.log.changed.wait_timeout_while(state, limit, open).unwrap();
        drop(state);
        if timeout.timed_out() {
            self.fail(&format!("still runs after {limit:?}"));
        }
        self.child.wait().unwrap()
    }

    /// Panics with the end of the log.
    pub(crate) fn fail(&self, reason: &str) -> ! {
        panic!("{}: {reason}; its log ends:\n{}", self.name, self.tail())
    }

    /// The last lines of the log.
    pub(crate) fn tail(&self) -> String {
        let lines = self.log.state.lock().unwrap().lines.clone();
        let mut tail = String::new();
        for line in lines.iter().skip(lines.len().saturating_sub(40)) {
            writeln!(tail, "  {line}").expect("a string grows");
        }
        tail
    }
}

impl Log {
    fn read_lines(&self, stream: impl Read) {
        // Bytes that are not UTF-8 still appear in the log.
        let lines = BufReader::new(stream).split(b'\n').map_while(Result::ok);
        for line in lines {
            self.state.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
            self.changed.notify_all();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have exited already. Then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
