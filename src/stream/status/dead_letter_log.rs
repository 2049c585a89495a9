//! Collects dead letters for the log: one line a minute and code, with the count and one example.
//!
//! Callers pass the time, so that tests need no clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time between two lines of one code.
const INTERVAL: Duration = Duration::from_mins(1);

/// The dead letters of one worker that are not in the log yet.
#[derive(Debug, Default)]
pub(crate) struct DeadLetterLog {
    codes: Mutex<BTreeMap<&'static str, Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    logged_at: Option<Instant>,
    count: u64,
    example: String,
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeadLetterLine {
    pub(crate) code: &'static str,
    /// Dead letters since the last line of this code.
    pub(crate) count: u64,
    /// Position and error of the first of them.
    pub(crate) example: String,
}

impl DeadLetterLine {
    /// Writes the line.
    pub(crate) fn log(&self) {
        let Self { code, count, example } = self;
        tracing::warn!(code, count, example, "references became dead letters");
    }
}

impl DeadLetterLog {
    /// Adds a dead letter. `example` is called for the first one of a line only.
    pub(crate) fn record(&self, code: &'static str, example: impl FnOnce() -> String) {
        let mut codes = self.lock();
        let pending = codes.entry(code).or_default();
        if pending.count == 0 {
            pending.example = example();
        }
        pending.count += 1;
    }

    /// Removes and returns the lines that are due.
    pub(crate) fn due(&self, now: Instant) -> Vec<DeadLetterLine> {
        let is_due = |pending: &Pending| {
            let logged_at = pending.logged_at;
            logged_at.is_none_or(|logged| now.saturating_duration_since(logged) >= INTERVAL)
        };
        self.take(now, is_due)
    }

    /// Removes and returns all lines, at the end of the worker.
    pub(crate) fn rest(&self, now: Instant) -> Vec<DeadLetterLine> {
        self.take(now, |_| true)
    }

    fn take(&self, now: Instant, is_due: impl Fn(&Pending) -> bool) -> Vec<DeadLetterLine> {
        let mut lines = Vec::new();
        for (code, pending) in self.lock().iter_mut() {
            if pending.count > 0 && is_due(pending) {
                let Pending { count, example, .. } = std::mem::take(pending);
                pending.logged_at = Some(now);
                lines.push(DeadLetterLine { code, count, example });
            }
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Pending>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_line_a_minute_with_its_count_and_first_example() {
        let (log, start) = (DeadLetterLog::default(), Instant::now());
        let line = |code, count, example: &str| DeadLetterLine {
            code,
            count,
            example: example.to_owned(),
        };
        log.record("decode.empty", || "first".to_owned());
        assert_eq!(log.due(start), [line("decode.empty", 1, "first")]);
        log.record("decode.empty", || "second".to_owned());
        log.record("decode.empty", || unreachable!("a line has one example"));
        log.record("fetch.not_found", || "other".to_owned());
        assert_eq!(log.due(start + INTERVAL / 2), [line("fetch.not_found", 1, "other")]);
        assert_eq!(log.due(start + INTERVAL), [line("decode.empty", 2, "second")]);
        assert_eq!(log.due(start + 3 * INTERVAL), []);
        log.record("fetch.not_found", || "last".to_owned());
        assert_eq!(log.rest(start + INTERVAL), [line("fetch.not_found", 1, "last")]);
    }
}
