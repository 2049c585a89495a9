//! Exponential backoff with jitter: the delays between attempts, and those that servers demand.
//!
//! A [`Backoff`] is a policy without state, so it serves async and blocking callers alike. The
//! caller counts its failures in a row, sleeps, and decides when to give up: after some attempts,
//! at a deadline, or never.
//!
//! Imports no other module of this crate.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Longest time that a server may demand before the next request.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// A policy for the delay before the next attempt.
///
/// The delay after the first failure is at most `initial`. Every later failure doubles this
/// ceiling, up to `max`. Jitter shortens each delay at random, so that callers that failed together
/// do not retry together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backoff {
    /// The ceiling after the first failure.
    pub(crate) initial: Duration,
    /// The highest ceiling.
    pub(crate) max: Duration,
    /// The random share of the ceiling, from 0 to 1. 0 always waits for the full ceiling, 0.5 for
    /// at least half of it, 1 for any time up to it.
    pub(crate) jitter: f64,
}

impl Backoff {
    /// Returns the delay after `failures` failures in a row, counted from 1.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        let ceiling = self.initial.saturating_mul(factor).min(self.max);
        ceiling.mul_f64(self.jitter.mul_add(fastrand::f64(), 1.0 - self.jitter))
    }
}

/// Returns the pause that a `Retry-After` header demands: a number of seconds or a date, at most an
/// hour. `None` if it is neither.
pub(crate) fn retry_after(header: &str) -> Option<Duration> {
    let pause = if let Ok(seconds) = header.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let date = DateTime::parse_from_rfc2822(header.trim()).ok()?;
        (date.to_utc() - Utc::now()).to_std().unwrap_or_default()
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays_ms(jitter: f64, failures: impl IntoIterator<Item = u32>) -> Vec<u128> {
        fastrand::seed(7);
        let backoff =
            Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(1), jitter };
        failures.into_iter().map(|count| backoff.delay(count).as_millis()).collect()
    }

    #[test]
    fn without_jitter_each_delay_is_twice_the_last_up_to_the_maximum() {
        assert_eq!(delays_ms(0.0, [0, 1, 2, 3, 4, 5]), [200, 200, 400, 800, 1000, 1000]);
        assert_eq!(delays_ms(0.0, [33, u32::MAX]), [1000, 1000]);
    }

    #[test]
    fn full_jitter_covers_everything_below_the_ceiling() {
        let delays = delays_ms(1.0, std::iter::repeat_n(2, 1000));
        assert!(delays.iter().all(|&ms| ms < 400));
        assert!(delays.iter().any(|&ms| ms < 40) && delays.iter().any(|&ms| ms > 360));
    }

    #[test]
    fn half_jitter_waits_for_at_least_half_of_the_ceiling() {
        let delays = delays_ms(0.5, std::iter::repeat_n(2, 1000));
        assert!(delays.iter().all(|&ms| (200..400).contains(&ms)));
        assert!(delays.iter().any(|&ms| ms < 220) && delays.iter().any(|&ms| ms > 380));
    }

    #[test]
    fn the_same_seed_draws_the_same_delays() {
        assert_eq!(delays_ms(1.0, 1..9), delays_ms(1.0, 1..9));
    }
}
