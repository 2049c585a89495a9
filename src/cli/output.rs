//! Writing to the two standard streams, line by line.

use std::io::{self, Write};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::style::TemplateError;
use indicatif::{ProgressBar, ProgressStyle};

/// How often a progress moves.
const TICK: Duration = Duration::from_millis(200);

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

/// Counts what is sent, of which nobody knows how much there is. Hidden by itself where standard error is no terminal.
pub(super) fn sent_so_far() -> Result<ProgressBar, TemplateError> {
    let style = ProgressStyle::with_template("{spinner} {pos} sent, {per_sec}")?;
    let progress = ProgressBar::new_spinner().with_style(style);
    progress.enable_steady_tick(TICK);
    Ok(progress)
}
