//! The request rate of one store: additive increase, multiplicative decrease. Callers pass the
//! time; no I/O happens here.
//!
//! It limits the rate and not the concurrency. A rejected request takes a millisecond, so even one
//! request at a time would exceed a limit of 15 a second.
//!
//! There is no limit until a store throttles. Then every window of a second decides. If the store
//! rejected more than a tenth of the requests, the limit falls by a tenth; if it rejected most of
//! them, to 90 % of the rate that it accepted. Otherwise the limit grows by a constant step, as
//! long as it is used, and doubles after three seconds without a rejection: another worker may have
//! finished. If the store rejects what a doubled limit allows, the limit returns to the one before.
//! A tenth of rejected requests is the price for finding the store's limit; a rejected request is
//! repeated, and no image is lost.

use std::time::{Duration, Instant};

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);
/// Longest window: slow stores need more time for enough requests.
const WINDOW_MAX: Duration = Duration::from_secs(5);
/// Minimum number of requests that a window of the first length must have.
const WINDOW_REQUESTS_MIN: u32 = 10;
/// Maximum share of rejected requests that is tolerated.
const REJECTED_SHARE_MAX: f64 = 0.1;
/// Share of rejected requests above which the limit is far above that of the store.
const REJECTED_SHARE_FAR: f64 = 0.6;
/// The limit after a decrease, as a share of the one before or of the accepted rate.
const DECREASE: f64 = 0.9;
/// The step of an increase, in multiples of the square root of the limit after the last decrease.
/// With a step in proportion to the limit, workers that share a store would not approach equal
/// shares.
const STEP: f64 = 0.2;
/// The smallest step, in requests per second.
const STEP_MIN: f64 = 0.5;
/// The lowest limit, in requests per second.
const LIMIT_MIN: f64 = 1.0;
/// A limit above this is removed: it no longer limits anything.
const LIMIT_MAX: f64 = 10_000.0;
/// Share of the limit that must be used for it to grow.
const USED_SHARE_MIN: f64 = 0.8;
/// Time without a rejection after which the limit grows by a factor.
const CALM: Duration = Duration::from_secs(3);
/// That factor, for a window.
const GROWTH: f64 = 2.0;
/// Time without a rejection after which an unused limit is removed.
const CALM_UNUSED: Duration = Duration::from_secs(10);
/// Requests may start this much late without losing their place, so that the granularity of timers
/// does not lower the rate.
const CATCH_UP: Duration = Duration::from_millis(50);

/// The rate limit of one store.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// Requests per second; `None` while the store does not throttle.
    limit: Option<f64>,
    step: f64,
    /// The limit before it last grew by a factor, while it grows by one.
    before_growth: Option<f64>,
    window_start: Instant,
    accepted: u32,
    rejected: u32,
    last_rejection: Instant,
    /// Scheduled start of the latest request.
    scheduled: Instant,
}

impl RateLimit {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            limit: None,
            step: STEP_MIN,
            before_growth: None,
            window_start: now,
            accepted: 0,
            rejected: 0,
            last_rejection: now,
            scheduled: now,
        }
    }

    /// Returns the limit in requests per second, or `None` if there is none.
    pub(crate) fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Returns the time at which the next request may start. It is in the past if the request may
    /// start at once.
    pub(crate) fn next_start(&self, now: Instant) -> Instant {
        match self.limit {
            Some(limit) => self.scheduled + Duration::from_secs_f64(1.0 / limit),
            None => now,
        }
    }

    /// Schedules a request that starts now.
    pub(crate) fn start(&mut self, now: Instant) {
        let latest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.scheduled = self.next_start(now).max(latest).min(now);
    }

    /// Records that the store accepted a request, even if it has no such object.
    pub(crate) fn accepted(&mut self, now: Instant) {
        self.accepted += 1;
        self.evaluate(now);
    }

    /// Records that the store rejected a request because of its rate.
    pub(crate) fn rejected(&mut self, now: Instant) {
        self.rejected += 1;
        self.last_rejection = now;
        self.evaluate(now);
    }

    /// Ends the window if it is over, and adapts the limit.
    fn evaluate(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.window_start);
        let requests = self.accepted + self.rejected;
        let is_over =
            elapsed >= WINDOW && (requests >= WINDOW_REQUESTS_MIN || elapsed >= WINDOW_MAX);
        if !is_over {
            return;
        }
        // An idle store has one long window, which says nothing about its rate.
        let seconds = elapsed.min(WINDOW_MAX).as_secs_f64();
        let rejected_share = f64::from(self.rejected) / f64::from(requests);
        if rejected_share > REJECTED_SHARE_MAX && self.rejected > 1 {
            // Just above the limit of a strict store, every second request is rejected. Then the
            // accepted rate is half of what the store would accept.
            let is_far = rejected_share > REJECTED_SHARE_FAR;
            let accepted_rate = f64::from(self.accepted) / seconds;
            self.decrease(self.limit.filter(|_| !is_far).unwrap_or(accepted_rate));
        } else if let Some(limit) = self.limit {
            self.increase(limit, f64::from(requests) / seconds, now);
        }
        (self.window_start, self.accepted, self.rejected) = (now, 0, 0);
    }

    fn decrease(&mut self, rate: f64) {
        // A burst may have been accepted at a higher rate than the limit.
        let rate = self.limit.map_or(rate, |limit| limit.min(rate));
        // The store accepted the limit before the last factor. From twice the store's rate, steps
        // of a tenth would take six windows, in which a third of the requests is rejected.
        let limit = self.before_growth.take().unwrap_or(DECREASE * rate).max(LIMIT_MIN);
        self.step = (STEP * limit.sqrt()).max(STEP_MIN);
        self.limit = Some(limit);
    }

    fn increase(&mut self, limit: f64, rate: f64, now: Instant) {
        let calm = now.saturating_duration_since(self.last_rejection);
        if rate < USED_SHARE_MIN * limit {
            // Other things limit the rate. If the store is calm, the limit has no purpose.
            if calm >= CALM_UNUSED {
                self.limit = None;
            }
            return;
        }
        let is_growing_fast = self.before_growth.is_some() || calm >= CALM;
        self.before_growth = is_growing_fast.then_some(limit);
        let limit = if is_growing_fast { GROWTH * limit } else { limit + self.step };
        self.limit = (limit < LIMIT_MAX).then_some(limit);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A store that accepts `rate` requests a second, with a burst of `burst`, and clients that
    /// always have a request to send.
    struct Simulation {
        limit: RateLimit,
        rate: f64,
        burst: f64,
        tokens: f64,
        now: Instant,
        accepted: u32,
        rejected: u32,
    }

    /// Time of a request whose rate is not limited.
    const UNLIMITED_INTERVAL: Duration = Duration::from_millis(1);

    impl Simulation {
        fn new(rate: f64, burst: f64) -> Self {
            let now = Instant::now();
            let limit = RateLimit::new(now);
            Self { limit, rate, burst, tokens: burst, now, accepted: 0, rejected: 0 }
        }

        fn run(&mut self, time: Duration) {
            (self.accepted, self.rejected) = (0, 0);
            let end = self.now + time;
            while self.now < end {
                let start = self.limit.next_start(self.now).max(self.now + UNLIMITED_INTERVAL);
                let waited = start.saturating_duration_since(self.now).as_secs_f64();
                self.tokens = (self.tokens + waited * self.rate).min(self.burst);
                self.now = start;
                self.limit.start(start);
                if self.tokens >= 1.0 {
                    self.tokens -= 1.0;
                    self.accepted += 1;
                    self.limit.accepted(start);
                } else {
                    self.rejected += 1;
                    self.limit.rejected(start);
                }
            }
        }

        fn accepted_share(&self, time: Duration) -> f64 {
            f64::from(self.accepted) / (self.rate * time.as_secs_f64())
        }
    }

    /// Returns the share of its rate that a store with a burst of a second accepts in two minutes
    /// from workers that begin one after the other.
    fn share_used_by(workers: u32, rate: f64) -> f64 {
        let begin = Instant::now();
        let end = begin + 2 * MINUTE;
        let mut limits: Vec<_> =
            (0..workers).map(|number| RateLimit::new(begin + number * WINDOW)).collect();
        let mut next: Vec<_> = limits.iter().map(|limit| limit.scheduled).collect();
        let (mut tokens, mut last, mut accepted) = (rate, begin, 0.0);
        let mut random = 1_u64;
        loop {
            let worker = (0..next.len()).min_by_key(|worker| next[*worker]).unwrap();
            let now = next[worker];
            if now >= end {
                return accepted / (rate * (end - begin).as_secs_f64());
            }
            let earned = now.saturating_duration_since(last).as_secs_f64() * rate;
            tokens = (tokens + earned).min(rate);
            last = last.max(now);
            let limit = &mut limits[worker];
            limit.start(now);
            if tokens >= 1.0 {
                tokens -= 1.0;
                accepted += 1.0;
                limit.accepted(now);
            } else {
                limit.rejected(now);
            }
            // Without the jitter of real requests, workers would keep their order.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let jitter = Duration::from_micros(random >> 50);
            next[worker] = limit.next_start(now).max(now + UNLIMITED_INTERVAL) + jitter;
        }
    }

    #[test]
    fn workers_that_share_a_store_use_its_rate() {
        for rate in [15.0, 50.0, 100.0] {
            for workers in [2, 3, 6] {
                let used = share_used_by(workers, rate);
                assert!(used >= 0.9, "{workers} workers use {used} of {rate}/s");
            }
        }
    }

    #[test]
    fn a_worker_whose_neighbours_have_finished_soon_uses_the_whole_rate() {
        let mut simulation = Simulation::new(100.0, 100.0);
        simulation.limit.limit = Some(2.0);
        simulation.run(Duration::from_secs(12));
        assert_eq!(simulation.limit.limit().map(|limit| limit > 50.0), Some(true));
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_store_that_never_throttles_has_no_limit() {
        let mut simulation = Simulation::new(1e6, 1e6);
        simulation.run(MINUTE);
        assert_eq!(simulation.limit.limit(), None);
        assert_eq!(simulation.rejected, 0);
    }

    #[test]
    fn a_few_rejections_set_no_limit() {
        let mut limit = RateLimit::new(Instant::now());
        let start = limit.window_start;
        for number in 0..10_000_u32 {
            let now = start + Duration::from_millis(5) * number;
            if number % 20 == 0 { limit.rejected(now) } else { limit.accepted(now) }
        }
        assert_eq!(limit.limit(), None);
    }

    #[test]
    fn a_limit_ends_when_the_store_accepts_everything_again() {
        let mut simulation = Simulation::new(15.0, 15.0);
        simulation.run(MINUTE);
        assert!(simulation.limit.limit().is_some());
        simulation.rate = 1e6;
        simulation.burst = 1e6;
        simulation.run(MINUTE);
        assert_eq!(simulation.limit.limit(), None);
    }

    #[test]
    fn a_store_that_rejects_everything_is_asked_once_a_second() {
        let mut simulation = Simulation::new(1e-9, 1.0);
        simulation.tokens = 0.0;
        simulation.run(MINUTE);
        simulation.run(MINUTE);
        assert!((55..=70).contains(&simulation.rejected), "{}", simulation.rejected);
    }

    /// Runs a simulation and compares it with what the rate limit promises.
    fn check_use_of(rate: f64, burst_seconds: f64) -> Result<(), String> {
        let start = Duration::from_secs(10);
        let mut simulation = Simulation::new(rate, (rate * burst_seconds).max(2.0));
        simulation.run(start);
        let share = simulation.accepted_share(start);
        if share < 0.9 {
            return Err(format!("{share} of {rate}/s at the start"));
        }
        simulation.run(MINUTE);
        let share = simulation.accepted_share(MINUTE);
        if share < 0.9 {
            return Err(format!("{share} of {rate}/s"));
        }
        let (accepted, rejected) = (simulation.accepted, simulation.rejected);
        // The minute may begin in a window whose accepted requests were before it.
        let most = 0.15 * f64::from(accepted + rejected) + 5.0;
        if f64::from(rejected) > most {
            return Err(format!("{rejected} rejected, {accepted} accepted, at {rate}/s"));
        }
        Ok(())
    }

    #[test]
    fn a_limit_that_doubled_beyond_the_rate_falls_back_at_once() {
        assert_eq!(check_use_of(17.689_372_775_850_384, 0.343_158_746_659_947_3), Ok(()));
        assert_eq!(check_use_of(17.489_517_491_194_42, 0.371_117_580_663_412_8), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_rate_that_a_store_allows_is_used_and_hardly_exceeded(
            rate in 5.0..500.0_f64,
            burst_seconds in 0.02..1.5_f64,
        ) {
            prop_assert_eq!(check_use_of(rate, burst_seconds), Ok(()));
        }
    }
}
