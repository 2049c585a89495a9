//! Stops requests to a server that is known to rate nothing, except for one trial at a time.
//!
//! Requests wait for the end of a trial: one that failed meanwhile would fail the other crops of
//! its image, and so withdraw the trial.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

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
    /// Notified at the end of a trial.
    trial_ended: Notify,
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

/// The answer to a request for admission.
#[derive(Debug)]
enum Decision<'a> {
    Admitted(Admission<'a>),
    /// Another request tries.
    InTrial,
    Refused(Arc<ServerOutage>),
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

    /// Admits a request. While the breaker is open, admits one at a time, after a delay. Waits for
    /// the end of another one's trial.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Fails with the outage if the request may not be sent.
    pub(crate) async fn admit(&self) -> Result<Admission<'_>, Arc<ServerOutage>> {
        loop {
            // Created first, so that the end of a trial is not missed.
            let trial_ended = self.trial_ended.notified();
            match self.decide(Instant::now()) {
                Decision::Admitted(admission) => return Ok(admission),
                Decision::Refused(outage) => return Err(outage),
                Decision::InTrial => trial_ended.await,
            }
        }
    }

    fn decide(&self, now: Instant) -> Decision<'_> {
        let mut state = self.lock();
        match state.as_mut() {
            None => Decision::Admitted(Admission { breaker: self, is_trial: false }),
            Some(open) if open.is_in_trial => Decision::InTrial,
            Some(open) if now < open.next_trial => Decision::Refused(open.known(now)),
            Some(open) => {
                open.is_in_trial = true;
                Decision::Admitted(Admission { breaker: self, is_trial: true })
            }
        }
    }

    /// Records an outage and opens the breaker. A server that fails on one crop, or throttles
    /// without a long pause, rates others.
    pub(crate) fn failed(&self, outage: &Arc<ServerOutage>, now: Instant) {
        let pause = outage.retry_after.unwrap_or_default();
        match outage.kind {
            OutageKind::OnThisCrop => return,
            OutageKind::Throttled if pause <= TRIALS.max => return,
            _ => {}
        }
        let mut state = self.lock();
        // Requests that failed together count once.
        let failures = match state.as_ref() {
            Some(open) if now < open.next_trial && !open.is_in_trial => return,
            Some(open) => open.failures.saturating_add(1),
            None => 1,
        };
        let delay = TRIALS.delay(failures).max(pause);
        *state = Some(Open {
            outage: Arc::clone(outage),
            failures,
            next_trial: now + delay,
            is_in_trial: false,
        });
        drop(state);
        self.trial_ended.notify_waiters();
    }

    /// Records that the server has rated a picture, and closes the breaker.
    pub(crate) fn rated(&self) {
        *self.lock() = None;
        self.trial_ended.notify_waiters();
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
        if !self.is_trial {
            return;
        }
        if let Some(open) = self.breaker.lock().as_mut() {
            open.is_in_trial = false;
        }
        self.breaker.trial_ended.notify_waiters();
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

    /// Returns the admission of a request, which must not be refused now.
    fn admitted(breaker: &Breaker, now: Instant) -> Admission<'_> {
        match breaker.decide(now) {
            Decision::Admitted(admission) => admission,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_open_breaker_admits_one_trial_at_a_time() {
        let start = Instant::now();
        let breaker = Breaker::default();
        assert!(!admitted(&breaker, start).is_trial);
        breaker.failed(&outage(OutageKind::Unavailable), start);
        let Decision::Refused(known) = breaker.decide(start) else { panic!("it is open") };
        assert_eq!(known.attempts, 0, "nothing was sent");
        let due = start + TRIALS.initial;
        assert_eq!(breaker.outage(due), None);
        let trial = admitted(&breaker, due);
        assert!(trial.is_trial);
        assert!(matches!(breaker.decide(due), Decision::InTrial));
        assert!(breaker.outage(due).is_some());
        // A trial whose image is withdrawn leaves its place to another one.
        drop(trial);
        assert!(admitted(&breaker, due).is_trial);
        breaker.rated();
        assert!(!admitted(&breaker, due).is_trial);
    }

    #[tokio::test]
    async fn requests_during_a_trial_share_its_end() {
        let breaker = Breaker::default();
        let long_ago = Instant::now().checked_sub(TRIALS.max).unwrap();
        for is_rated in [true, false] {
            breaker.failed(&outage(OutageKind::Unavailable), long_ago);
            let trial = breaker.admit().await.unwrap();
            let mut waiting = Box::pin(breaker.admit());
            assert!(futures::poll!(&mut waiting).is_pending());
            if is_rated {
                breaker.rated();
            } else {
                breaker.failed(&outage(OutageKind::Unavailable), Instant::now());
            }
            assert_eq!(waiting.await.is_ok(), is_rated);
            drop(trial);
        }
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
        drop(admitted(&breaker, later));
        breaker.failed(&outage(OutageKind::Refused), later);
        assert_eq!(failures(&breaker), Some(2));
    }

    #[test]
    fn a_failure_on_one_crop_and_a_short_pause_open_nothing() {
        let now = Instant::now();
        let breaker = Breaker::default();
        breaker.failed(&outage(OutageKind::OnThisCrop), now);
        breaker.failed(&outage(OutageKind::Throttled), now);
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
