//! Writing to the two standard streams, line by line.

use std::io::{self, Write};

use clap::ValueEnum;

/// How a stream of results is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LineFormat {
    /// A line for each, for people
    Table,
    /// A JSON object a line
    Jsonl,
}

/// A line of the result, on standard output.
pub(super) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A line for the person at the terminal, on standard error.
#[expect(clippy::print_stderr, reason = "nothing is left to do when standard error is closed")]
pub(super) fn complain(line: &str) {
    eprintln!("{line}");
}
