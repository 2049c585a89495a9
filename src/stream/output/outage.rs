//! Distinguishes the fault of a store, or of the worker's access to it, from a bad reference.
//! Callers pass the time; no I/O happens here.
//!
//! The reference of a failed fetch becomes a dead letter only if the fault is its own, so that a
//! poison record never blocks its partition. Otherwise the reference is held and fetched again. It
//! keeps its share of the budget meanwhile, so consumption pauses once the budget is used up.
//!
//! - **Refused**: the store's code says that the worker's credentials, clock, region or bucket are
//!   wrong. Every object fails alike, so the first one begins an outage.
//! - **Denied**: a plain 403 may be the fault of one object or of the worker. Only the store's
//!   other objects can tell, so the reference is held. If a read of another object *that began
//!   later* succeeds and this one is still denied, the fault is its own. If ten references in a row
//!   are denied without such a read, it is an outage. If the store was readable before and too few
//!   references arrive to decide, a reference is given up after `outage_after`. So is a reference
//!   of a web host that was never readable: the worker has no credentials there that could be
//!   wrong.
//! - **Throttled**: the reference is held until the store accepts it. A store that demands a pause
//!   of at least `outage_after` is unavailable.
//! - **Unavailable**: a timeout or a 5xx has used up its own retries. If nearly all fetches of a
//!   store fail for `outage_after`, it is an outage; until then, each is given up.
//!
//! The scoring server is treated like a store, with one difference. It is `Unavailable` only after
//! it failed on a picture of the worker's own too, so the first failure begins an outage.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::storage::{StoreFailure, StoreFault};
use crate::stream::output::dependency::Dependency;
use crate::telemetry::metrics;

/// The treatment of a reference after a failed fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// The fault is the reference's: make a dead letter.
    GiveUp,
    /// Fetch the reference again soon. The worker stays ready.
    Wait,
    /// The store is unavailable: hold the reference and fetch it again later.
    Hold,
}

/// A failed attempt for a reference, at its store or at the scoring server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailedFetch<'a> {
    pub(crate) dependency: &'a Dependency,
    pub(crate) failure: StoreFailure,
    /// Time of the first failure of this reference.
    pub(crate) first_failed_at: Instant,
    /// Stable code and message of the failure, for the log.
    pub(crate) code: &'static str,
    pub(crate) message: &'a str,
}

/// Minimum number of failures in an outage: fewer may be the fault of the references alone.
const FAILURES_MIN: u32 = 10;
/// Minimum percentage of failed fetches in an outage.
const FAILED_PERCENT: u32 = 95;
/// Minimum number of references that are denied in a row in an outage.
const DENIED_MIN: u32 = 10;
/// Minimum time that a store denies all references in an outage, so that reads in progress count.
const DENIED_TIME_MIN: Duration = Duration::from_secs(2);
/// Maximum number of tracked stores. Only stores with a recent failure are tracked.
const STORES_MAX: usize = 256;

/// Tracks the stores with recent failures.
#[derive(Debug)]
pub(crate) struct Outages {
    outage_after: Duration,
    stores: HashMap<Dependency, Store>,
    /// Number of held references of each store.
    held: HashMap<Dependency, usize>,
}

#[derive(Debug)]
struct Store {
    /// Start of the time in which nearly all fetches failed.
    failing_since: Instant,
    /// Start of the current counting period, which lasts `outage_after`.
    period_start: Instant,
    /// Counts of the current period and of the one before it.
    current: FetchCounts,
    previous: FetchCounts,
    /// References that are denied in a row, without a read that succeeded.
    denied: Denials,
    /// The fault that began the outage; `None` while the store is available.
    outage: Option<StoreFault>,
}

#[derive(Debug, Clone, Copy, Default)]
struct FetchCounts {
    failed: u32,
    answered: u32,
}

#[derive(Debug, Clone, Copy)]
struct Denials {
    references: u32,
    since: Instant,
}

impl Outages {
    pub(crate) fn new(outage_after: Duration) -> Self {
        Self { outage_after, stores: HashMap::new(), held: HashMap::new() }
    }

    /// Records that the store answered, with the object (`is_read`) or with its absence. Returns
    /// true if this ends an outage.
    pub(crate) fn answered(
        &mut self,
        dependency: &Dependency,
        is_read: bool,
        now: Instant,
    ) -> bool {
        // The usual case: no store has failed recently.
        if self.stores.is_empty() {
            return false;
        }
        let Some(store) = self.stores.get_mut(dependency) else { return false };
        match store.outage {
            // A store may name missing objects and deny all others.
            Some(StoreFault::Denied) if !is_read => false,
            Some(_) => {
                self.stores.remove(dependency);
                metrics::store_unavailable(&dependency.label(), false);
                true
            }
            None => {
                store.advance(now, self.outage_after);
                store.current.answered += 1;
                false
            }
        }
    }

    /// Records a failed fetch.
    pub(crate) fn failed(&mut self, failed: FailedFetch<'_>, now: Instant) -> Advice {
        let dependency = failed.dependency;
        if !self.stores.contains_key(dependency) && !self.has_room() {
            return Advice::GiveUp;
        }
        let outage_after = self.outage_after;
        let store = self.stores.entry(dependency.clone()).or_insert_with(|| Store::new(now));
        let (advice, begins) = match failed.failure.fault {
            StoreFault::Refused => (Advice::Hold, true),
            StoreFault::Denied => store.denied(&failed, outage_after, now),
            StoreFault::Throttled => {
                let pause = failed.failure.retry_after.unwrap_or_default();
                (Advice::Wait, store.unavailable(outage_after, now) || pause >= outage_after)
            }
            StoreFault::Unavailable => match dependency {
                Dependency::ScoringServer(_) => (Advice::Hold, true),
                Dependency::Store(_) => (Advice::GiveUp, store.unavailable(outage_after, now)),
            },
        };
        if begins && store.outage.is_none() {
            store.outage = Some(failed.failure.fault);
            begin_outage(&failed);
        }
        match store.outage {
            Some(_) if advice != Advice::GiveUp || failed.failure.fault != StoreFault::Denied => {
                Advice::Hold
            }
            _ => advice,
        }
    }

    /// Counts a reference that is held from now on.
    pub(crate) fn hold(&mut self, dependency: &Dependency) {
        *self.held.entry(dependency.clone()).or_default() += 1;
    }

    /// Ends the hold of a reference. With the last one an outage ends too: nothing would notice
    /// that the store is available again.
    pub(crate) fn release(&mut self, dependency: &Dependency) {
        let Some(held) = self.held.get_mut(dependency) else { return };
        *held -= 1;
        if *held > 0 {
            return;
        }
        self.held.remove(dependency);
        if self.stores.get(dependency).is_some_and(|store| store.outage.is_some()) {
            self.stores.remove(dependency);
            metrics::store_unavailable(&dependency.label(), false);
        }
    }

    /// Evicts a store if necessary; returns false if every slot holds an outage. The limit matters
    /// because references name the stores, and a writer could name arbitrarily many.
    fn has_room(&mut self) -> bool {
        if self.stores.len() < STORES_MAX {
            return true;
        }
        let oldest = self.stores.iter().filter(|(_, store)| store.outage.is_none());
        let oldest = oldest.min_by_key(|(_, store)| store.period_start);
        let Some(dependency) = oldest.map(|(dependency, _)| dependency.clone()) else {
            return false;
        };
        self.stores.remove(&dependency).is_some()
    }
}

/// Logs the beginning of an outage once, with the store's own error.
fn begin_outage(failed: &FailedFetch<'_>) {
    let FailedFetch { dependency, code, message, .. } = failed;
    metrics::store_unavailable(&dependency.label(), true);
    let store = match dependency {
        Dependency::Store(store) => store,
        Dependency::ScoringServer(server) => {
            tracing::error!(
                server,
                code,
                reason = message,
                "the scoring server is unavailable or refuses this worker; references are held"
            );
            return;
        }
    };
    match failed.failure.fault {
        StoreFault::Refused => tracing::error!(
            store,
            code,
            reason = message,
            "the store refuses this worker; its references are held"
        ),
        StoreFault::Denied => tracing::error!(
            store,
            code,
            reason = message,
            "the store denies access to every object; its references are held"
        ),
        StoreFault::Throttled | StoreFault::Unavailable => tracing::error!(
            store,
            code,
            reason = message,
            "the store is unavailable; its references are held"
        ),
    }
}

impl Store {
    fn new(now: Instant) -> Self {
        Self {
            failing_since: now,
            period_start: now,
            current: FetchCounts::default(),
            previous: FetchCounts::default(),
            denied: Denials { references: 0, since: now },
            outage: None,
        }
    }

    /// Records a failure without a verdict of the store. Returns true if nearly all fetches have
    /// failed for long enough.
    fn unavailable(&mut self, outage_after: Duration, now: Instant) -> bool {
        self.advance(now, outage_after);
        self.current.failed += 1;
        if !self.nearly_all_fail() {
            self.failing_since = now;
        }
        let is_long = now.saturating_duration_since(self.failing_since) >= outage_after;
        is_long && self.counts().failed >= FAILURES_MIN
    }

    /// Records a denied reference. Returns the advice, and true if every object is denied.
    fn denied(
        &mut self,
        failed: &FailedFetch<'_>,
        outage_after: Duration,
        now: Instant,
    ) -> (Advice, bool) {
        let last_read = failed.failure.last_read;
        if last_read > Some(failed.first_failed_at) {
            return (Advice::GiveUp, false);
        }
        if self.denied.references == 0 || last_read > Some(self.denied.since) {
            self.denied = Denials { references: 0, since: failed.first_failed_at };
        }
        if failed.first_failed_at == now {
            self.denied.references += 1;
        }
        let time = now.saturating_duration_since(self.denied.since);
        let was_readable = last_read.is_some();
        let may_be_the_workers = was_readable || !failed.dependency.is_web();
        let is_every_object = self.denied.references >= DENIED_MIN && time >= DENIED_TIME_MIN;
        let was_never_readable = !was_readable && time >= outage_after;
        let waited = now.saturating_duration_since(failed.first_failed_at);
        let is_undecided = (was_readable || !may_be_the_workers) && waited >= outage_after;
        if may_be_the_workers && (is_every_object || was_never_readable) {
            (Advice::Hold, true)
        } else if is_undecided && self.outage.is_none() {
            (Advice::GiveUp, false)
        } else {
            (Advice::Wait, false)
        }
    }

    /// Starts a new period if the current one is over.
    fn advance(&mut self, now: Instant, period: Duration) {
        let elapsed = now.saturating_duration_since(self.period_start);
        if elapsed < period {
            return;
        }
        let is_next = elapsed < period * 2;
        self.previous = if is_next { self.current } else { FetchCounts::default() };
        self.current = FetchCounts::default();
        self.period_start = now;
        if !is_next && self.outage.is_none() {
            // Without a fetch for a whole period, earlier failures are no longer evidence.
            self.failing_since = now;
        }
    }

    fn counts(&self) -> FetchCounts {
        FetchCounts {
            failed: self.current.failed + self.previous.failed,
            answered: self.current.answered + self.previous.answered,
        }
    }

    fn nearly_all_fail(&self) -> bool {
        let FetchCounts { failed, answered } = self.counts();
        100 * u64::from(failed)
            >= u64::from(FAILED_PERCENT) * (u64::from(failed) + u64::from(answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_mins(1);

    fn store() -> Dependency {
        Dependency::store_of("s3://photos/a.jpg")
    }

    fn failed(
        dependency: &Dependency,
        fault: StoreFault,
        first_failed_at: Instant,
    ) -> FailedFetch<'_> {
        let failure = StoreFailure { fault, last_read: None, retry_after: None };
        FailedFetch { dependency, failure, first_failed_at, code: "fetch.test", message: "a test" }
    }

    fn fail(outages: &mut Outages, dependency: &Dependency, now: Instant) -> Advice {
        outages.failed(failed(dependency, StoreFault::Unavailable, now), now)
    }

    fn fail_for(outages: &mut Outages, start: Instant, seconds: u64) -> Vec<Advice> {
        let moments = (0..=seconds).map(|second| start + Duration::from_secs(second));
        moments.map(|now| fail(outages, &store(), now)).collect()
    }

    /// Records a denied reference; `last_read` is the start of the store's latest read.
    fn deny(outages: &mut Outages, times: [Instant; 2], last_read: Option<Instant>) -> Advice {
        let [first_failed_at, now] = times;
        let store = store();
        let mut failed = failed(&store, StoreFault::Denied, first_failed_at);
        failed.failure.last_read = last_read;
        outages.failed(failed, now)
    }

    fn is_outage(outages: &Outages) -> bool {
        outages.stores.values().any(|store| store.outage.is_some())
    }

    #[test]
    fn the_first_failure_of_a_scoring_server_holds_every_reference() {
        let now = Instant::now();
        let mut outages = Outages::new(PERIOD);
        let server = Dependency::scoring_server("http://gpu-7:8000/v1");
        assert_eq!(fail(&mut outages, &server, now), Advice::Hold);
        assert_eq!(fail(&mut outages, &store(), now), Advice::GiveUp, "a store is not affected");
        assert!(outages.answered(&server, true, now) && !is_outage(&outages));
    }

    #[test]
    fn a_reference_on_which_a_scoring_server_fails_is_given_up_after_another_rating() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut outages = Outages::new(PERIOD);
        let server = Dependency::scoring_server("http://gpu-7:8000/v1");
        let mut on_crop = failed(&server, StoreFault::Denied, start);
        on_crop.failure.last_read = Some(start);
        assert_eq!(outages.failed(on_crop, start), Advice::Wait);
        on_crop.failure.last_read = Some(start + second);
        assert_eq!(outages.failed(on_crop, start + 2 * second), Advice::GiveUp);
        assert!(!is_outage(&outages));
    }

    #[test]
    fn references_are_held_once_a_store_failed_for_a_minute() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        let advice = fail_for(&mut outages, start, 120);
        assert!(advice[..60].iter().all(|advice| *advice == Advice::GiveUp));
        assert!(advice[60..].iter().all(|advice| *advice == Advice::Hold));
    }

    #[test]
    fn an_outage_lasts_until_the_store_answers_even_with_few_fetches() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        fail_for(&mut outages, start, 60);
        let later = start + PERIOD * 30;
        assert_eq!(fail(&mut outages, &store(), later), Advice::Hold);
        assert!(outages.answered(&store(), false, later));
        assert_eq!(fail(&mut outages, &store(), later), Advice::GiveUp);
    }

    #[test]
    fn a_store_that_answers_other_fetches_is_available() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            assert_eq!(fail(&mut outages, &store(), now), Advice::GiveUp);
            assert!(!outages.answered(&store(), true, now));
        }
    }

    #[test]
    fn a_few_failures_are_no_outage() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for minute in 0..60 {
            let now = start + Duration::from_secs(20 * minute);
            assert_eq!(fail(&mut outages, &store(), now), Advice::GiveUp);
        }
    }

    #[test]
    fn stores_fail_independently_and_their_number_is_limited() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        fail_for(&mut outages, start, 60);
        for host in 0..2 * STORES_MAX {
            let host = Dependency::store_of(&format!("https://host-{host}/a.jpg"));
            assert_eq!(fail(&mut outages, &host, start + PERIOD), Advice::GiveUp);
        }
        assert!(outages.stores.len() <= STORES_MAX);
        let advice = fail(&mut outages, &store(), start + PERIOD);
        assert_eq!(advice, Advice::Hold, "an outage is not forgotten");
    }

    #[test]
    fn the_first_refusal_of_the_credentials_holds_every_reference() {
        let now = Instant::now();
        let mut outages = Outages::new(PERIOD);
        assert_eq!(outages.failed(failed(&store(), StoreFault::Refused, now), now), Advice::Hold);
        assert_eq!(fail(&mut outages, &store(), now), Advice::Hold, "a timeout counts too");
        assert!(outages.answered(&store(), true, now) && !is_outage(&outages));
    }

    #[test]
    fn a_throttled_reference_waits_and_the_worker_stays_ready() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            let advice = outages.failed(failed(&store(), StoreFault::Throttled, start), now);
            assert_eq!(advice, Advice::Wait);
            outages.answered(&store(), true, now);
        }
    }

    #[test]
    fn a_store_that_demands_a_long_pause_is_unavailable_at_once() {
        let now = Instant::now();
        let mut outages = Outages::new(PERIOD);
        let store = store();
        let mut throttled = failed(&store, StoreFault::Throttled, now);
        throttled.failure.retry_after = Some(PERIOD / 2);
        assert_eq!(outages.failed(throttled, now), Advice::Wait);
        throttled.failure.retry_after = Some(PERIOD * 60);
        assert_eq!(outages.failed(throttled, now), Advice::Hold);
        assert!(is_outage(&outages));
    }

    #[test]
    fn an_outage_ends_with_its_last_held_reference() {
        let now = Instant::now();
        let mut outages = Outages::new(PERIOD);
        outages.failed(failed(&store(), StoreFault::Refused, now), now);
        outages.hold(&store());
        outages.hold(&store());
        outages.release(&store());
        assert!(is_outage(&outages));
        outages.release(&store());
        assert!(!is_outage(&outages) && outages.held.is_empty());
        outages.release(&store());
    }

    #[test]
    fn a_web_host_that_denied_everything_from_the_first_holds_a_reference_for_a_while_only() {
        let start = Instant::now();
        let host = &Dependency::store_of("https://images.example/a.jpg");
        let mut outages = Outages::new(PERIOD);
        for number in 0..100 {
            let now = start + Duration::from_millis(100) * number;
            assert_eq!(outages.failed(failed(host, StoreFault::Denied, now), now), Advice::Wait);
        }
        let late = outages.failed(failed(host, StoreFault::Denied, start), start + PERIOD);
        assert_eq!(late, Advice::GiveUp);
        assert!(!is_outage(&outages));
        // It was readable, so all at once is the worker's fault: its address is blocked.
        for number in 0..DENIED_MIN {
            let now = start + PERIOD + Duration::from_millis(300) * number;
            let mut denied = failed(host, StoreFault::Denied, now);
            denied.failure.last_read = Some(start + PERIOD / 2);
            outages.failed(denied, now);
        }
        assert!(is_outage(&outages));
    }

    #[test]
    fn an_old_failure_does_not_turn_the_first_denial_into_an_outage() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        fail(&mut outages, &store(), start);
        let later = start + PERIOD * 60;
        assert_eq!(deny(&mut outages, [later, later], None), Advice::Wait);
        assert!(!is_outage(&outages));
    }

    #[test]
    fn one_denied_object_among_good_ones_is_given_up_after_a_later_read() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut outages = Outages::new(PERIOD);
        let before = Some(start);
        let first = start + second;
        assert_eq!(deny(&mut outages, [first, first], before), Advice::Wait);
        // A read that began before the denial says nothing: the rights may have changed between.
        assert_eq!(deny(&mut outages, [first, first + second], before), Advice::Wait);
        let after = Some(first + second);
        assert_eq!(deny(&mut outages, [first, first + 2 * second], after), Advice::GiveUp);
        assert!(!is_outage(&outages));
    }

    #[test]
    fn a_bucket_that_denies_every_object_from_the_first_is_an_outage() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for number in 0..DENIED_MIN {
            let now = start + Duration::from_millis(10) * number;
            assert_eq!(deny(&mut outages, [now, now], None), Advice::Wait);
        }
        let later = start + DENIED_TIME_MIN;
        assert_eq!(deny(&mut outages, [start, later], None), Advice::Hold);
        assert!(is_outage(&outages));
        assert!(
            !outages.answered(&store(), false, later),
            "a missing object proves no read access"
        );
        assert!(outages.answered(&store(), true, later));
    }

    #[test]
    fn a_bucket_that_was_never_readable_is_an_outage_even_with_one_reference() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        assert_eq!(deny(&mut outages, [start, start], None), Advice::Wait);
        assert_eq!(deny(&mut outages, [start, start + PERIOD], None), Advice::Hold);
    }

    #[test]
    fn rights_that_are_withdrawn_become_an_outage_without_a_dead_letter() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        let last_read = Some(start);
        let withdrawn = start + Duration::from_secs(1);
        for number in 0..100 {
            let now = withdrawn + Duration::from_millis(50) * number;
            assert_ne!(deny(&mut outages, [now, now], last_read), Advice::GiveUp);
        }
        assert!(is_outage(&outages));
        let much_later = withdrawn + PERIOD * 30;
        assert_eq!(deny(&mut outages, [withdrawn, much_later], last_read), Advice::Hold);
    }

    #[test]
    fn a_denied_reference_of_a_quiet_store_is_given_up_after_the_outage_time() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        let (last_read, denied) = (Some(start), start + Duration::from_secs(1));
        assert_eq!(deny(&mut outages, [denied, denied], last_read), Advice::Wait);
        assert_eq!(deny(&mut outages, [denied, denied + PERIOD], last_read), Advice::GiveUp);
        assert!(!is_outage(&outages));
    }
}
