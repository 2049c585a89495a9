//! Stops requests to a server that is known to rate nothing, except for one trial at a time.
//! Callers pass the time; no I/O happens here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::engine::server::error::{OutageKind, ServerOutage};

/// Delays between trials: shorter than those of held references, so that these seldom find the
/// breaker open without a reason.
const TRIALS: Backoff =
    Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(10), jitter: 0.5 };

/// The breaker of one server.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    open: Mutex<Option<Open>>,
}

/// The state of an open breaker.
#[derive(Debug)]
struct Open {
    outage: Arc<ServerOutage>,
    /// Outages in a row.
    failures: u32,
    next_trial: Instant,
    is_in_trial: bool,
}

/// The permission to ask the server. Dropping it ends a trial.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    /// True if the request decides whether the server is available again.
    pub(crate) is_trial: bool,
}

impl Breaker {
    /// Returns the outage if no request may be sent now.
    pub(crate) fn outage(&self, now: Instant) -> Option<Arc<ServerOutage>> {
        let open = self.lock();
        let open = open.as_ref().filter(|open| open.is_in_trial || now < open.next_trial)?;
        Some(open.known(now))
    }

    /// Admits a request. While the breaker is open, admits one at a time, after a delay.
    ///
    /// # Errors
    /// Fails with the outage if the request may not be sent.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admission<'_>, Arc<ServerOutage>> {
        let mut state = self.lock();
        match state.as_mut() {
            None => Ok(Admission { breaker: self, is_trial: false }),
            Some(open) if open.is_in_trial || now < open.next_trial => Err(open.known(now)),
            Some(open) => {
                open.is_in_trial = true;
                Ok(Admission { breaker: self, is_trial: true })
            }
        }
    }

    /// Records an outage and opens the breaker. A server that fails on one crop has no outage.
    pub(crate) fn failed(&self, outage: &Arc<ServerOutage>, now: Instant) {
        if outage.kind == OutageKind::OnThisCrop {
            return;
        }
        let mut state = self.lock();
        // Requests that failed together count once.
        let failures = match state.as_ref() {
            Some(open) if now < open.next_trial => return,
            Some(open) => open.failures.saturating_add(1),
            None => 1,
        };
        let delay = TRIALS.delay(failures).max(outage.retry_after.unwrap_or_default());
        *state = Some(Open {
            outage: Arc::clone(outage),
            failures,
            next_trial: now + delay,
            is_in_trial: false,
        });
    }

    /// Records that the server has rated a picture, and closes the breaker.
    pub(crate) fn rated(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Returns the outage for a request that is not sent, with the rest of the server's pause.
    fn known(&self, now: Instant) -> Arc<ServerOutage> {
        let rest = self.next_trial.saturating_duration_since(now);
        let retry_after = self.outage.retry_after.map(|_| rest);
        Arc::new(ServerOutage { attempts: 0, retry_after, ..(*self.outage).clone() })
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_trial
            && let Some(open) = self.breaker.lock().as_mut()
        {
            open.is_in_trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(kind: OutageKind) -> Arc<ServerOutage> {
        Arc::new(ServerOutage {
            kind,
            code: "score.test",
            server: "http://gpu-7".into(),
            message: "a test".to_owned(),
            attempts: 3,
            last_rated: None,
            retry_after: None,
        })
    }

    #[test]
    fn an_open_breaker_admits_one_trial_at_a_time() {
        let start = Instant::now();
        let breaker = Breaker::default();
        assert!(!breaker.admit(start).unwrap().is_trial);
        breaker.failed(&outage(OutageKind::Unavailable), start);
        assert_eq!(breaker.admit(start).unwrap_err().attempts, 0, "nothing was sent");
        let due = start + TRIALS.initial;
        assert_eq!(breaker.outage(due), None);
        let trial = breaker.admit(due).unwrap();
        assert!(trial.is_trial);
        assert!(breaker.admit(due).is_err() && breaker.outage(due).is_some());
        // A trial whose image is withdrawn leaves its place to another one.
        drop(trial);
        assert!(breaker.admit(due).unwrap().is_trial);
        breaker.rated();
        assert!(!breaker.admit(due).unwrap().is_trial);
    }

    #[test]
    fn trials_become_rarer_and_failures_at_the_same_time_count_once() {
        let start = Instant::now();
        let breaker = Breaker::default();
        let failures = |breaker: &Breaker| breaker.lock().as_ref().map(|open| open.failures);
        for _ in 0..50 {
            breaker.failed(&outage(OutageKind::Unavailable), start);
        }
        assert_eq!(failures(&breaker), Some(1));
        let later = start + TRIALS.max;
        drop(breaker.admit(later).unwrap());
        breaker.failed(&outage(OutageKind::Refused), later);
        assert_eq!(failures(&breaker), Some(2));
    }

    #[test]
    fn a_failure_on_one_crop_opens_nothing() {
        let now = Instant::now();
        let breaker = Breaker::default();
        breaker.failed(&outage(OutageKind::OnThisCrop), now);
        assert_eq!(breaker.outage(now), None);
    }

    #[test]
    fn the_pause_that_a_server_demands_is_kept() {
        let now = Instant::now();
        let breaker = Breaker::default();
        let pause = Some(Duration::from_mins(1));
        let throttled =
            ServerOutage { retry_after: pause, ..(*outage(OutageKind::Throttled)).clone() };
        breaker.failed(&Arc::new(throttled), now);
        let known = breaker.outage(now + Duration::from_secs(20)).unwrap();
        assert_eq!(known.retry_after, Some(Duration::from_secs(40)));
        assert_eq!(breaker.outage(now + Duration::from_mins(1)), None);
    }
}
