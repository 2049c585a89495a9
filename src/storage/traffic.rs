//! The requests to each store: their rate, and the latest read that succeeded.
//!
//! A store is a bucket or a host of the allow-lists, so their number is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedMutexGuard;

use crate::storage::error::{FetchFault, StoreFault};
use crate::storage::rate_limit::RateLimit;
use crate::telemetry::metrics;

/// The requests to all stores.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    stores: Mutex<HashMap<String, Arc<StoreTraffic>>>,
}

/// The requests to one store.
#[derive(Debug)]
pub(crate) struct StoreTraffic {
    /// `s3://photos` or `https://images.example.com`.
    name: String,
    state: Mutex<State>,
    /// Held by the fetch whose turn is next. Fair, so no fetch waits indefinitely.
    queue: Arc<tokio::sync::Mutex<()>>,
}

/// The right to send a store its next request. While the store has a rate limit, its other requests
/// wait until this one starts or the turn is dropped.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    limited: Option<(Arc<StoreTraffic>, OwnedMutexGuard<()>)>,
}

#[derive(Debug)]
struct State {
    rate: RateLimit,
    last_read: Option<Instant>,
}

impl Traffic {
    /// Returns the traffic of a store.
    pub(crate) fn of(&self, name: String) -> Arc<StoreTraffic> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let store = stores.entry(name).or_insert_with_key(|name| {
            let state = State { rate: RateLimit::new(Instant::now()), last_read: None };
            let (name, state) = (name.clone(), Mutex::new(state));
            Arc::new(StoreTraffic { name, state, queue: Arc::default() })
        });
        Arc::clone(store)
    }
}

impl Turn {
    /// Returns the turn of a request that no limit delays.
    pub(crate) fn unlimited() -> Self {
        Self { limited: None }
    }

    /// Records that the request starts now. Call it last before sending, so that a wait for other
    /// resources does not turn several requests into a burst.
    pub fn start(self) {
        if let Some((traffic, _next)) = self.limited {
            traffic.lock().rate.start(Instant::now());
        }
    }
}

impl StoreTraffic {
    /// Waits until the rate limit of the store permits another request. Returns at once if there is
    /// no limit.
    ///
    /// Cancel safe: an abandoned wait uses no turn.
    pub(crate) async fn turn(self: Arc<Self>) -> Turn {
        if !self.is_limited() {
            return Turn::unlimited();
        }
        let next = Arc::clone(&self.queue).lock_owned().await;
        loop {
            let now = Instant::now();
            let start = self.lock().rate.next_start(now);
            if start <= now {
                return Turn { limited: Some((self, next)) };
            }
            tokio::time::sleep_until(start.into()).await;
        }
    }

    /// Records the outcome of a request that started at `start`.
    pub(crate) fn record(&self, start: Instant, fault: Option<&FetchFault>) {
        if matches!(fault, Some(FetchFault::Uri(_) | FetchFault::NoCredentials(_))) {
            // No request was sent.
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        let not_sent = fault.filter(|fault| !fault.is_of_sent_object());
        let outcome = match not_sent.map(FetchFault::store_fault) {
            None => {
                state.last_read = state.last_read.max(Some(start));
                state.rate.accepted(now);
                "accepted"
            }
            Some(Some(StoreFault::Throttled)) => {
                state.rate.rejected(now);
                "throttled"
            }
            // Without a response, the store's limit is unknown.
            Some(Some(StoreFault::Unavailable)) => "failed",
            Some(Some(StoreFault::Refused | StoreFault::Denied)) => {
                state.rate.accepted(now);
                "refused"
            }
            Some(None) => {
                state.rate.accepted(now);
                "missing"
            }
        };
        metrics::store_requested(&self.name, outcome, state.rate.limit());
    }

    /// Returns true if the rate of the store is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.lock().rate.limit().is_some()
    }

    /// Returns the start of the latest read that succeeded.
    pub(crate) fn last_read(&self) -> Option<Instant> {
        self.lock().last_read
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;
    use futures::FutureExt;

    use super::*;

    fn throttled() -> FetchFault {
        FetchFault::Throttled { answer: String::new(), retry_after: None }
    }

    #[tokio::test]
    async fn a_throttled_store_delays_only_its_own_requests() {
        let traffic = Traffic::default();
        let (slow, fast) = (traffic.of("s3://slow".to_owned()), traffic.of("s3://fast".to_owned()));
        let now = Instant::now();
        slow.lock().rate = RateLimit::new(now.checked_sub(Duration::from_secs(2)).unwrap());
        for _ in 0..20 {
            slow.record(now, Some(&throttled()));
            fast.record(now, None);
        }
        let turn = Arc::clone(&slow).turn().await;
        assert!(Arc::clone(&slow).turn().now_or_never().is_none(), "the first one is not sent");
        drop(turn);
        Arc::clone(&slow).turn().await.start();
        assert!(Arc::clone(&slow).turn().now_or_never().is_none(), "one request a second");
        for _ in 0..100 {
            assert!(Arc::clone(&fast).turn().now_or_never().is_some());
        }
        assert!(Arc::ptr_eq(&slow, &traffic.of("s3://slow".to_owned())));
    }

    #[test]
    fn an_object_that_the_store_sent_counts_as_read_even_if_it_is_refused() {
        for (fault, is_read) in [
            (FetchFault::OtherContentType(String::new()), true),
            (FetchFault::Sha256Mismatch(String::new()), true),
            (FetchFault::larger_than(ByteSize::mb(1)), true),
            (FetchFault::EtagMismatch(String::new()), false),
            (FetchFault::NotFound(String::new()), false),
            (FetchFault::Denied(String::new()), false),
        ] {
            let store = Traffic::default().of("s3://photos".to_owned());
            let start = Instant::now();
            store.record(start, Some(&fault));
            assert_eq!(store.last_read(), is_read.then_some(start), "{fault:?}");
        }
    }

    #[test]
    fn only_a_read_that_began_later_counts_as_the_latest() {
        let store = Traffic::default().of("s3://photos".to_owned());
        let early = Instant::now();
        let late = early + Duration::from_secs(1);
        store.record(late, Some(&FetchFault::NotFound(String::new())));
        assert_eq!(store.last_read(), None);
        store.record(late, None);
        store.record(early, None);
        assert_eq!(store.last_read(), Some(late));
    }
}
