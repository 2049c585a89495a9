//! Whether the worker is ready for references, from what its parts notice. Pure: the time is given.

use std::time::{Duration, Instant};

/// What the parts of the worker last noticed.
#[derive(Debug, Clone)]
pub(crate) struct Vitals {
    broker_seen_at: Instant,
    commit_failing_since: Option<Instant>,
    input_missing: bool,
    draining: bool,
    /// Output records that failed and are being sent again.
    pub(crate) unpublished: usize,
    /// References that are kept through a store's outage.
    pub(crate) held: usize,
}

impl Vitals {
    /// A worker that has just spoken with a broker.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            broker_seen_at: now,
            commit_failing_since: None,
            input_missing: false,
            draining: false,
            unpublished: 0,
            held: 0,
        }
    }

    /// A connection to a broker is up.
    pub(crate) fn broker_seen(&mut self, now: Instant) {
        self.broker_seen_at = now;
    }

    /// A commit succeeded.
    pub(crate) fn committed(&mut self, now: Instant) {
        self.broker_seen_at = now;
        self.commit_failing_since = None;
    }

    /// A commit failed and will be repeated.
    pub(crate) fn commit_failed(&mut self, now: Instant) {
        self.commit_failing_since.get_or_insert(now);
    }

    /// The input topic is gone, or is back.
    pub(crate) fn input_missing(&mut self, missing: bool) {
        self.input_missing = missing;
    }

    /// The worker is stopping.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// How long no broker was seen.
    pub(crate) fn without_broker(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.broker_seen_at)
    }

    /// Why the worker is not ready, if it is not.
    pub(crate) fn trouble(&self, now: Instant, unready_after: Duration) -> Option<&'static str> {
        let is_commit_overdue = self
            .commit_failing_since
            .is_some_and(|since| now.saturating_duration_since(since) >= unready_after);
        if self.draining {
            Some("the worker is stopping")
        } else if self.without_broker(now) >= unready_after {
            Some("no broker can be reached")
        } else if is_commit_overdue {
            Some("offsets cannot be committed")
        } else if self.input_missing {
            Some("the input topic does not exist any more")
        } else if self.unpublished > 0 {
            Some("answers cannot be published and are being sent again")
        } else if self.held > 0 {
            Some("a store is out, its references are kept")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn short_losses_are_no_trouble_and_long_ones_are() {
        let start = Instant::now();
        let mut vitals = Vitals::new(start);
        assert_eq!(vitals.trouble(start + LIMIT / 2, LIMIT), None);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), Some("no broker can be reached"));
        vitals.broker_seen(start + LIMIT);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), None);
    }

    #[test]
    fn commits_that_fail_for_long_are_trouble_until_one_succeeds() {
        let start = Instant::now();
        let mut vitals = Vitals::new(start);
        vitals.commit_failed(start);
        vitals.commit_failed(start + LIMIT / 2);
        vitals.broker_seen(start + LIMIT);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), Some("offsets cannot be committed"));
        vitals.committed(start + LIMIT);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), None);
    }

    #[test]
    fn a_stop_and_waiting_answers_are_trouble_at_once() {
        let start = Instant::now();
        let mut vitals = Vitals::new(start);
        vitals.unpublished = 1;
        assert!(vitals.trouble(start, LIMIT).is_some());
        vitals.unpublished = 0;
        assert_eq!(vitals.trouble(start, LIMIT), None);
        vitals.drain();
        assert_eq!(vitals.trouble(start, LIMIT), Some("the worker is stopping"));
    }
}
