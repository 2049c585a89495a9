//! Output to the two standard streams, line by line.

use std::io::{self, Write};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::style::TemplateError;
use indicatif::{ProgressBar, ProgressStyle};

/// Refresh interval of a spinner.
const SPINNER_INTERVAL: Duration = Duration::from_millis(200);

/// Output format of a command that prints results as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// One aligned line per result, for people
    Table,
    /// One JSON object per line
    Jsonl,
}

/// Writes a line of the result to standard output.
pub(crate) fn print_result(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes a line for the user to standard error.
#[expect(clippy::print_stderr, reason = "nothing is left to do when standard error is closed")]
pub(crate) fn print_status(line: &str) {
    eprintln!("{line}");
}

/// Returns a bar that counts `total` images, with their rate and the time left. indicatif hides it
/// if standard error is not a terminal.
pub(crate) fn image_bar(total: u64) -> Result<ProgressBar, TemplateError> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta} left")?;
    Ok(ProgressBar::new(total).with_style(style))
}

/// Returns a spinner that counts sent records; their total is not known in advance. indicatif hides
/// it if standard error is not a terminal.
pub(crate) fn sent_records_spinner() -> Result<ProgressBar, TemplateError> {
    let style = ProgressStyle::with_template("{spinner} {pos} sent, {per_sec}")?;
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(SPINNER_INTERVAL);
    Ok(spinner)
}

/// Returns an error and its causes in one line. A message often has its cause in it, because logs
/// show only the message; such a cause is not repeated.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// Returns true if a cause of the error is a broken pipe, as after `| head` closes standard output.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen: {0}; set telemetry.server.address")]
    struct Listen(#[from] io::Error);

    #[test]
    fn each_cause_of_an_error_is_shown_once() {
        let refused = || io::Error::other("access denied");
        let named: anyhow::Error = Listen(refused()).into();
        let text = "cannot listen: access denied; set telemetry.server.address";
        assert_eq!(with_causes(&named), text);
        let unnamed = Err::<(), _>(refused()).context("a.jpg").context("score").unwrap_err();
        assert_eq!(with_causes(&unnamed), "score: a.jpg: access denied");
    }
}
