//! Distinguishes a store's outage from a bad reference. Callers pass the time; no I/O happens here.
//!
//! A transient fetch failure has used up its own retries. Normally its reference becomes a dead
//! letter, so that a poison record never blocks its partition. If nearly all fetches of a store
//! fail for a minute, the store is unavailable, and continuing would turn the backlog into dead
//! letters. Its references are then held and fetched again until the store answers. They keep their
//! share of the budget meanwhile, so consumption pauses once the budget is used up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The treatment of a reference after a transient fetch failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// The store answers other fetches: make a dead letter.
    GiveUp,
    /// The store is unavailable: hold the reference and fetch it again later.
    Hold,
}

/// Minimum number of failures in an outage: fewer may be the fault of the references alone.
const FAILURES_MIN: u32 = 10;
/// Minimum percentage of failed fetches in an outage.
const FAILED_PERCENT: u32 = 95;
/// Maximum number of tracked stores. Only stores with a recent failure are tracked.
const STORES_MAX: usize = 256;

/// Tracks the stores with recent failures.
#[derive(Debug)]
pub(crate) struct Outages {
    outage_after: Duration,
    stores: HashMap<String, Store>,
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
    is_unavailable: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct FetchCounts {
    failed: u32,
    answered: u32,
}

impl Outages {
    pub(crate) fn new(outage_after: Duration) -> Self {
        Self { outage_after, stores: HashMap::new() }
    }

    /// Records that the store answered, with the object or with a refusal. Returns true if this
    /// ends an outage.
    pub(crate) fn answered(&mut self, uri: &str, now: Instant) -> bool {
        // The usual case: no store has failed recently.
        if self.stores.is_empty() {
            return false;
        }
        let Some(store) = self.stores.get_mut(store_of(uri)) else { return false };
        if store.is_unavailable {
            self.stores.remove(store_of(uri));
            return true;
        }
        store.advance(now, self.outage_after);
        store.current.answered += 1;
        false
    }

    /// Records a transient failure of the store.
    pub(crate) fn failed(&mut self, uri: &str, now: Instant) -> Advice {
        let name = store_of(uri);
        if !self.stores.contains_key(name) && !self.has_room() {
            return Advice::GiveUp;
        }
        let store = self.stores.entry(name.to_owned()).or_insert_with(|| Store::new(now));
        store.advance(now, self.outage_after);
        store.current.failed += 1;
        if !store.nearly_all_fail() {
            store.failing_since = now;
        }
        let is_long = now.saturating_duration_since(store.failing_since) >= self.outage_after;
        if is_long && store.counts().failed >= FAILURES_MIN && !store.is_unavailable {
            store.is_unavailable = true;
            tracing::error!(store = name, "the store is unavailable; its references are held");
        }
        if store.is_unavailable { Advice::Hold } else { Advice::GiveUp }
    }

    /// Evicts a store if necessary; returns false if every slot holds an outage. The limit matters
    /// because references name the stores, and a writer could name arbitrarily many.
    fn has_room(&mut self) -> bool {
        if self.stores.len() < STORES_MAX {
            return true;
        }
        let oldest = self.stores.iter().filter(|(_, store)| !store.is_unavailable);
        let oldest = oldest.min_by_key(|(_, store)| store.period_start);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return false };
        self.stores.remove(&name).is_some()
    }
}

impl Store {
    fn new(now: Instant) -> Self {
        let (current, previous) = (FetchCounts::default(), FetchCounts::default());
        Self { failing_since: now, period_start: now, current, previous, is_unavailable: false }
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
        if !is_next && !self.is_unavailable {
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

/// Returns the scheme and the bucket or host of a URI: objects below them fail together.
fn store_of(uri: &str) -> &str {
    let rest = uri.find("://").map_or(0, |at| at + 3);
    let end = uri.bytes().skip(rest).position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    uri.get(..end.map_or(uri.len(), |end| rest + end)).unwrap_or(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_mins(1);
    const URI: &str = "s3://photos/a.jpg";

    fn fail_for(outages: &mut Outages, start: Instant, seconds: u64) -> Vec<Advice> {
        let moments = (0..=seconds).map(|second| start + Duration::from_secs(second));
        moments.map(|now| outages.failed(URI, now)).collect()
    }

    #[test]
    fn a_store_is_its_scheme_and_bucket_or_host() {
        for (uri, store) in [
            ("s3://photos/2026/a.jpg", "s3://photos"),
            ("https://cdn.example/a?x=/y", "https://cdn.example"),
            ("https://cdn.example?x", "https://cdn.example"),
            ("file:///srv/a.jpg", "file://"),
            ("gs://photos", "gs://photos"),
            ("nonsense", "nonsense"),
            ("s3://fotos-é/a", "s3://fotos-é"),
            ("", ""),
        ] {
            assert_eq!(store_of(uri), store);
        }
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
        assert_eq!(outages.failed(URI, later), Advice::Hold);
        assert!(outages.answered(URI, later));
        assert_eq!(outages.failed(URI, later), Advice::GiveUp);
    }

    #[test]
    fn a_store_that_answers_other_fetches_is_available() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            assert_eq!(outages.failed(URI, now), Advice::GiveUp);
            assert!(!outages.answered("s3://photos/b.jpg", now));
        }
    }

    #[test]
    fn a_few_failures_are_no_outage() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for minute in 0..60 {
            let now = start + Duration::from_secs(20 * minute);
            assert_eq!(outages.failed(URI, now), Advice::GiveUp);
        }
    }

    #[test]
    fn stores_fail_independently_and_their_number_is_limited() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        fail_for(&mut outages, start, 60);
        for host in 0..2 * STORES_MAX {
            let uri = format!("https://host-{host}/a.jpg");
            assert_eq!(outages.failed(&uri, start + PERIOD), Advice::GiveUp);
        }
        assert!(outages.stores.len() <= STORES_MAX);
        assert_eq!(outages.failed(URI, start + PERIOD), Advice::Hold, "an outage is not forgotten");
    }
}
