//! The readiness of a worker, derived from the observations of its parts.
//!
//! Callers pass the time, so that tests need no clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The latest observations of one worker.
#[derive(Debug)]
pub(crate) struct Vitals {
    observed: Mutex<Observed>,
}

#[derive(Debug)]
struct Observed {
    broker_seen_at: Instant,
    commit_failing_since: Option<Instant>,
    is_input_missing: bool,
    is_draining: bool,
    /// Output records that failed and are being sent again.
    unpublished: usize,
    /// References that are held through a store's outage.
    held: usize,
}

/// One waiting record or reference; dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    vitals: &'a Vitals,
    counter: fn(&mut Observed) -> &mut usize,
}

impl Vitals {
    /// Starts from a broker that has just answered.
    pub(crate) fn new(now: Instant) -> Self {
        let observed = Observed {
            broker_seen_at: now,
            commit_failing_since: None,
            is_input_missing: false,
            is_draining: false,
            unpublished: 0,
            held: 0,
        };
        Self { observed: Mutex::new(observed) }
    }

    /// Records that a connection to a broker is up.
    pub(crate) fn broker_seen(&self, now: Instant) {
        self.lock().broker_seen_at = now;
    }

    /// Records a successful commit.
    pub(crate) fn committed(&self, now: Instant) {
        let mut observed = self.lock();
        observed.broker_seen_at = now;
        observed.commit_failing_since = None;
    }

    /// Records a failed commit, which will be repeated.
    pub(crate) fn commit_failed(&self, now: Instant) {
        self.lock().commit_failing_since.get_or_insert(now);
    }

    /// Records that the input topic does not exist.
    pub(crate) fn input_missing(&self) {
        self.lock().is_input_missing = true;
    }

    /// Records that the input topic exists.
    pub(crate) fn input_found(&self) {
        self.lock().is_input_missing = false;
    }

    /// Records that the worker is stopping.
    pub(crate) fn draining(&self) {
        self.lock().is_draining = true;
    }

    /// Counts an output record that failed and is being sent again.
    pub(crate) fn unpublished(&self) -> Waiting<'_> {
        self.wait(|observed| &mut observed.unpublished)
    }

    /// Counts a reference that is held through a store's outage.
    pub(crate) fn held(&self) -> Waiting<'_> {
        self.wait(|observed| &mut observed.held)
    }

    /// Returns the time since a broker was last seen.
    pub(crate) fn without_broker(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().broker_seen_at)
    }

    /// Returns the reason why the worker is not ready, or `None` if it is ready.
    pub(crate) fn trouble(&self, now: Instant, unready_after: Duration) -> Option<&'static str> {
        let observed = self.lock();
        let is_overdue = |since| now.saturating_duration_since(since) >= unready_after;
        if observed.is_draining {
            Some("the worker is stopping")
        } else if is_overdue(observed.broker_seen_at) {
            Some("no broker can be reached")
        } else if observed.commit_failing_since.is_some_and(is_overdue) {
            Some("offsets cannot be committed")
        } else if observed.is_input_missing {
            Some("the input topic does not exist any more")
        } else if observed.unpublished > 0 {
            Some("answers cannot be published and are being sent again")
        } else if observed.held > 0 {
            Some("a store is unavailable, its references are held")
        } else {
            None
        }
    }

    fn wait(&self, counter: fn(&mut Observed) -> &mut usize) -> Waiting<'_> {
        *counter(&mut self.lock()) += 1;
        Waiting { vitals: self, counter }
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *(self.counter)(&mut self.vitals.lock()) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn a_short_loss_of_brokers_is_no_trouble_and_a_long_one_is() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        assert_eq!(vitals.trouble(start + LIMIT / 2, LIMIT), None);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), Some("no broker can be reached"));
        vitals.broker_seen(start + LIMIT);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), None);
    }

    #[test]
    fn commits_that_keep_failing_are_trouble_until_one_succeeds() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        vitals.commit_failed(start);
        vitals.commit_failed(start + LIMIT / 2);
        vitals.broker_seen(start + LIMIT);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), Some("offsets cannot be committed"));
        vitals.committed(start + LIMIT);
        assert_eq!(vitals.trouble(start + LIMIT, LIMIT), None);
    }

    #[test]
    fn a_missing_topic_and_waiting_answers_are_trouble_while_they_last() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        vitals.input_missing();
        assert!(vitals.trouble(start, LIMIT).is_some());
        vitals.input_found();
        let waits: [fn(&Vitals) -> Waiting<'_>; 2] = [Vitals::unpublished, Vitals::held];
        for wait in waits {
            let waiting = wait(&vitals);
            assert!(vitals.trouble(start, LIMIT).is_some());
            drop(waiting);
        }
        assert_eq!(vitals.trouble(start, LIMIT), None);
    }

    #[test]
    fn a_stop_is_trouble_at_once() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        vitals.draining();
        assert_eq!(vitals.trouble(start, LIMIT), Some("the worker is stopping"));
    }
}
