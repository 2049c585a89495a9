//! The readiness of a worker, derived from the observations of its parts.
//!
//! A part reports a [`Trouble`] when it begins and when it ends. Callers pass the time, so that
//! tests need no clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{SubsecRound, Utc};

use crate::stream::status::trouble::Trouble;
use crate::telemetry::NotReady;

/// The latest observations of one worker.
#[derive(Debug)]
pub(crate) struct Vitals {
    observed: Mutex<Observed>,
}

#[derive(Debug)]
struct Observed {
    broker_seen_at: Instant,
    troubles: BTreeMap<Trouble, Observation>,
}

#[derive(Debug)]
struct Observation {
    since: Instant,
    text: String,
    /// Records or references that wait; the trouble ends with the last of them.
    waiting: usize,
}

/// A trouble that makes the worker not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) trouble: Trouble,
    pub(crate) since: Instant,
    pub(crate) text: String,
}

/// One waiting record or reference; dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    vitals: &'a Vitals,
    trouble: Trouble,
}

impl Complaint {
    /// Returns the reason with the time of day at which it began.
    pub(crate) fn not_ready(self, now: Instant) -> NotReady {
        let since = Utc::now() - now.saturating_duration_since(self.since);
        NotReady { code: self.trouble.name(), since: since.trunc_subsecs(0), text: self.text }
    }
}

impl Vitals {
    /// Starts from a broker that has just answered.
    pub(crate) fn new(now: Instant) -> Self {
        let observed = Observed { broker_seen_at: now, troubles: BTreeMap::new() };
        Self { observed: Mutex::new(observed) }
    }

    /// Records that a trouble exists. Its time is that of the first call since it ended last.
    pub(crate) fn begin(&self, trouble: Trouble, now: Instant) {
        self.begin_with(trouble, trouble.text().to_owned(), now);
    }

    /// Does the same, with a text that has the values at hand. The latest text counts.
    pub(crate) fn begin_with(&self, trouble: Trouble, text: String, now: Instant) {
        self.lock().observe(trouble, now).text = text;
    }

    /// Records that a trouble does not exist any more.
    pub(crate) fn end(&self, trouble: Trouble) {
        self.lock().troubles.remove(&trouble);
    }

    /// Returns the time at which a trouble began, or `None` if it does not exist.
    pub(crate) fn since(&self, trouble: Trouble) -> Option<Instant> {
        self.lock().troubles.get(&trouble).map(|observation| observation.since)
    }

    /// Records that a connection to a broker is up.
    pub(crate) fn broker_seen(&self, now: Instant) {
        self.lock().broker_seen_at = now;
    }

    /// Records a successful commit.
    pub(crate) fn committed(&self, now: Instant) {
        let mut observed = self.lock();
        observed.broker_seen_at = now;
        observed.troubles.remove(&Trouble::CommitsFail);
    }

    /// Records a failed commit, which will be repeated.
    pub(crate) fn commit_failed(&self, now: Instant) {
        self.begin(Trouble::CommitsFail, now);
    }

    /// Counts an output record that failed and is being sent again.
    pub(crate) fn unpublished(&self) -> Waiting<'_> {
        self.wait(Trouble::AnswersWaiting)
    }

    /// Counts a reference that is held through a store's outage.
    pub(crate) fn held_for_store(&self) -> Waiting<'_> {
        self.wait(Trouble::StoreUnavailable)
    }

    /// Counts a reference that is held through an outage of the scoring server.
    pub(crate) fn held_for_server(&self) -> Waiting<'_> {
        self.wait(Trouble::ServerUnavailable)
    }

    /// Returns the time since a broker was last seen.
    pub(crate) fn without_broker(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().broker_seen_at)
    }

    /// Returns the troubles that make the worker not ready; none if it is ready.
    pub(crate) fn complaints(&self, now: Instant, unready_after: Duration) -> Vec<Complaint> {
        let mut observed = self.lock();
        let broker_seen_at = observed.broker_seen_at;
        if now.saturating_duration_since(broker_seen_at) >= unready_after {
            observed.observe(Trouble::BrokersUnreachable, broker_seen_at);
        } else {
            observed.troubles.remove(&Trouble::BrokersUnreachable);
        }
        let counts = |trouble: Trouble, since| {
            !trouble.has_grace() || now.saturating_duration_since(since) >= unready_after
        };
        let troubles = observed.troubles.iter();
        troubles
            .filter(|(trouble, observation)| counts(**trouble, observation.since))
            .map(|(trouble, observation)| Complaint {
                trouble: *trouble,
                since: observation.since,
                text: observation.text.clone(),
            })
            .collect()
    }

    fn wait(&self, trouble: Trouble) -> Waiting<'_> {
        self.lock().observe(trouble, Instant::now()).waiting += 1;
        Waiting { vitals: self, trouble }
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed {
    fn observe(&mut self, trouble: Trouble, now: Instant) -> &mut Observation {
        self.troubles.entry(trouble).or_insert_with(|| Observation {
            since: now,
            text: trouble.text().to_owned(),
            waiting: 0,
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut observed = self.vitals.lock();
        if let Some(observation) = observed.troubles.get_mut(&self.trouble) {
            observation.waiting -= 1;
            if observation.waiting == 0 {
                observed.troubles.remove(&self.trouble);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn troubles(vitals: &Vitals, now: Instant) -> Vec<Trouble> {
        vitals.complaints(now, LIMIT).iter().map(|complaint| complaint.trouble).collect()
    }

    #[test]
    fn a_short_loss_of_brokers_is_no_trouble_and_a_long_one_is() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        assert_eq!(troubles(&vitals, start + LIMIT / 2), []);
        let complaints = vitals.complaints(start + LIMIT, LIMIT);
        assert_eq!(complaints[0].trouble, Trouble::BrokersUnreachable);
        assert_eq!((complaints[0].since, complaints.len()), (start, 1));
        vitals.broker_seen(start + LIMIT);
        assert_eq!(troubles(&vitals, start + LIMIT), []);
    }

    #[test]
    fn commits_that_keep_failing_are_trouble_until_one_succeeds() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        vitals.commit_failed(start);
        vitals.commit_failed(start + LIMIT / 2);
        vitals.broker_seen(start + LIMIT);
        assert_eq!(troubles(&vitals, start + LIMIT), [Trouble::CommitsFail]);
        vitals.committed(start + LIMIT);
        assert_eq!(troubles(&vitals, start + LIMIT), []);
    }

    #[test]
    fn troubles_are_reported_together_each_with_its_beginning_and_latest_text() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        vitals.begin_with(Trouble::ReadsFail, "first".to_owned(), start);
        vitals.begin_with(Trouble::ReadsFail, "second".to_owned(), start + LIMIT / 2);
        vitals.begin(Trouble::InputMissing, start);
        assert_eq!(troubles(&vitals, start), [Trouble::InputMissing, Trouble::ReadsFail]);
        let complaint = vitals.complaints(start, LIMIT).remove(1);
        assert_eq!((complaint.since, complaint.text.as_str()), (start, "second"));
        vitals.end(Trouble::InputMissing);
        assert_eq!(troubles(&vitals, start), [Trouble::ReadsFail]);
        assert_eq!(vitals.since(Trouble::ReadsFail), Some(start));
        assert_eq!(vitals.since(Trouble::InputMissing), None);
    }

    #[test]
    fn waiting_answers_are_trouble_until_the_last_wait_ends() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        let waits: [fn(&Vitals) -> Waiting<'_>; 3] =
            [Vitals::unpublished, Vitals::held_for_store, Vitals::held_for_server];
        for wait in waits {
            let (first, second) = (wait(&vitals), wait(&vitals));
            drop(first);
            assert_eq!(troubles(&vitals, start).len(), 1);
            drop(second);
            assert_eq!(troubles(&vitals, start), []);
        }
    }

    #[test]
    fn a_stop_is_trouble_at_once() {
        let start = Instant::now();
        let vitals = Vitals::new(start);
        vitals.begin(Trouble::Stopping, start);
        assert_eq!(troubles(&vitals, start), [Trouble::Stopping]);
    }
}
