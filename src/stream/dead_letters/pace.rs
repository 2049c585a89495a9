//! Limits the rate of a replay.

use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Maximum number of dead letters in one transaction.
pub(crate) const BATCH_MAX: usize = 500;
/// A wait notices a stop within this time.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Spaces dead letters by a minimum gap.
pub(crate) struct Pace {
    gap: Option<Duration>,
    next: Instant,
}

impl Pace {
    pub(crate) fn new(gap: Option<Duration>) -> Self {
        Self { gap, next: Instant::now() }
    }

    /// Returns the number of dead letters per transaction: at a limited rate, those of one second.
    pub(crate) fn batch_len(&self) -> usize {
        let per_second = |gap: Duration| 1_000_000_000 / gap.as_nanos().max(1);
        let dead_letters = self.gap.map_or(BATCH_MAX as u128, per_second);
        usize::try_from(dead_letters).unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX)
    }

    /// Blocks until the next dead letter may be sent, or until `stop`.
    pub(crate) fn wait(&mut self, stop: &CancellationToken) {
        let Some(gap) = self.gap else { return };
        while !stop.is_cancelled() {
            let left = self.next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(STOP_CHECK_INTERVAL));
        }
        // A delay is not caught up with a burst.
        self.next = self.next.max(Instant::now()) + gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_pace_makes_small_transactions() {
        let batch_len = |gap| Pace::new(gap).batch_len();
        assert_eq!(batch_len(None), BATCH_MAX);
        assert_eq!(batch_len(Some(Duration::from_secs(5))), 1);
        assert_eq!(batch_len(Some(Duration::from_millis(25))), 40);
        assert_eq!(batch_len(Some(Duration::from_nanos(1))), BATCH_MAX);
    }
}
