//! Telling a store's outage from a bad reference. Pure: the time is given.
//!
//! A fetch that failed in passing has spent its own retries. As a rule its reference becomes a dead
//! letter, so that a poison record never blocks its partition. But when nearly all fetches of a
//! store fail for a minute, the store is out, and going on would drain the backlog into dead
//! letters: its references are kept and fetched again until the store answers. They hold their
//! places meanwhile, so intake stops by itself when all places are taken.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What to do with a reference whose fetch failed in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// The store answers others: make a dead letter.
    GiveUp,
    /// The store is out: keep the reference and fetch again later.
    Keep,
}

/// Failures that an outage needs at least: fewer say more about the references than the store.
const FAILURES_MIN: u32 = 10;
/// Share of failed fetches, in percent, from which nearly all fail.
const FAILED_PERCENT: u32 = 95;
/// Stores that are watched at once; only those with a recent failure are.
const STORES_MAX: usize = 256;

/// The stores that failed lately.
#[derive(Debug)]
pub(crate) struct Outages {
    outage_after: Duration,
    stores: HashMap<String, Store>,
}

#[derive(Debug)]
struct Store {
    /// Since when nearly all fetches fail.
    failing_since: Instant,
    /// Counts of the running period and of the one before it.
    period_start: Instant,
    current: Counts,
    previous: Counts,
    is_out: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    failed: u32,
    answered: u32,
}

impl Outages {
    pub(crate) fn new(outage_after: Duration) -> Self {
        Self { outage_after, stores: HashMap::new() }
    }

    /// The store answered, with the object or with a plain no. True when this ends its outage.
    pub(crate) fn answered(&mut self, uri: &str, now: Instant) -> bool {
        // Nearly always there is no store to look up.
        if self.stores.is_empty() {
            return false;
        }
        let Some(store) = self.stores.get_mut(store_of(uri)) else { return false };
        if store.is_out {
            self.stores.remove(store_of(uri));
            return true;
        }
        store.turn(now, self.outage_after);
        store.current.answered += 1;
        false
    }

    /// The store failed in passing.
    pub(crate) fn failed(&mut self, uri: &str, now: Instant) -> Advice {
        let name = store_of(uri);
        if !self.stores.contains_key(name) && !self.has_room() {
            return Advice::GiveUp;
        }
        let store = self.stores.entry(name.to_owned()).or_insert_with(|| Store::new(now));
        store.turn(now, self.outage_after);
        store.current.failed += 1;
        if !store.nearly_all_fail() {
            store.failing_since = now;
        }
        let is_long = now.saturating_duration_since(store.failing_since) >= self.outage_after;
        if is_long && store.counts().failed >= FAILURES_MIN && !store.is_out {
            store.is_out = true;
            tracing::error!(store = name, "the store is out; its references are kept");
        }
        if store.is_out { Advice::Keep } else { Advice::GiveUp }
    }

    /// Makes room if there is none: names of stores come from references, and somebody could send
    /// endlessly many.
    fn has_room(&mut self) -> bool {
        if self.stores.len() < STORES_MAX {
            return true;
        }
        let oldest = self.stores.iter().filter(|(_, store)| !store.is_out);
        let oldest = oldest.min_by_key(|(_, store)| store.period_start);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return false };
        self.stores.remove(&name).is_some()
    }
}

impl Store {
    fn new(now: Instant) -> Self {
        let (current, previous) = (Counts::default(), Counts::default());
        Self { failing_since: now, period_start: now, current, previous, is_out: false }
    }

    /// Begins a new period when the running one is over.
    fn turn(&mut self, now: Instant, period: Duration) {
        let elapsed = now.saturating_duration_since(self.period_start);
        if elapsed < period {
            return;
        }
        let is_next = elapsed < period * 2;
        self.previous = if is_next { self.current } else { Counts::default() };
        self.current = Counts::default();
        self.period_start = now;
        if !is_next && !self.is_out {
            // Nothing was fetched for a whole period: what was before says nothing of now.
            self.failing_since = now;
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            failed: self.current.failed + self.previous.failed,
            answered: self.current.answered + self.previous.answered,
        }
    }

    fn nearly_all_fail(&self) -> bool {
        let Counts { failed, answered } = self.counts();
        100 * u64::from(failed)
            >= u64::from(FAILED_PERCENT) * (u64::from(failed) + u64::from(answered))
    }
}

/// Scheme and bucket or host: what fails together.
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
    fn references_are_kept_once_a_store_failed_for_a_minute() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        let advice = fail_for(&mut outages, start, 120);
        assert!(advice[..60].iter().all(|advice| *advice == Advice::GiveUp));
        assert!(advice[60..].iter().all(|advice| *advice == Advice::Keep));
    }

    #[test]
    fn an_outage_lasts_until_the_store_answers_however_seldom_it_is_asked() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        fail_for(&mut outages, start, 60);
        let later = start + PERIOD * 30;
        assert_eq!(outages.failed(URI, later), Advice::Keep);
        assert!(outages.answered(URI, later));
        assert_eq!(outages.failed(URI, later), Advice::GiveUp);
    }

    #[test]
    fn a_store_that_answers_others_is_not_out() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            assert_eq!(outages.failed(URI, now), Advice::GiveUp);
            assert!(!outages.answered("s3://photos/b.jpg", now));
        }
    }

    #[test]
    fn a_few_failures_are_the_references_fault() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        for minute in 0..60 {
            let now = start + Duration::from_secs(20 * minute);
            assert_eq!(outages.failed(URI, now), Advice::GiveUp);
        }
    }

    #[test]
    fn stores_fail_apart_and_only_so_many_are_watched() {
        let start = Instant::now();
        let mut outages = Outages::new(PERIOD);
        fail_for(&mut outages, start, 60);
        for host in 0..2 * STORES_MAX {
            let uri = format!("https://host-{host}/a.jpg");
            assert_eq!(outages.failed(&uri, start + PERIOD), Advice::GiveUp);
        }
        assert!(outages.stores.len() <= STORES_MAX);
        assert_eq!(outages.failed(URI, start + PERIOD), Advice::Keep, "an outage is not forgotten");
    }
}
