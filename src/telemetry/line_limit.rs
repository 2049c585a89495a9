//! Limits repeated log lines, for events that another program repeats without end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of keys. Further ones are never logged at that level: keys are few by design.
const KEYS_MAX: usize = 64;

/// Admits one line per key and interval, and counts the others.
#[derive(Debug)]
pub struct LineLimit {
    interval: Duration,
    keys: Mutex<BTreeMap<String, Seen>>,
}

#[derive(Debug)]
struct Seen {
    logged_at: Instant,
    suppressed: u64,
}

impl LineLimit {
    /// Creates a limit of one line per key and `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, keys: Mutex::new(BTreeMap::new()) }
    }

    /// Returns the number of lines that were suppressed since the last admitted one, or `None` if
    /// this line is suppressed too.
    pub fn admit(&self, key: &str, now: Instant) -> Option<u64> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = keys.get_mut(key) {
            if now.saturating_duration_since(seen.logged_at) < self.interval {
                seen.suppressed += 1;
                return None;
            }
            seen.logged_at = now;
            return Some(std::mem::take(&mut seen.suppressed));
        }
        if keys.len() >= KEYS_MAX {
            return None;
        }
        keys.insert(key.to_owned(), Seen { logged_at: now, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_key_and_interval_is_admitted_with_the_number_of_suppressed_ones() {
        let interval = Duration::from_mins(1);
        let (limit, start) = (LineLimit::new(interval), Instant::now());
        assert_eq!(limit.admit("a", start), Some(0));
        assert_eq!(limit.admit("a", start + interval / 2), None);
        assert_eq!(limit.admit("b", start + interval / 2), Some(0));
        assert_eq!(limit.admit("a", start + interval), Some(1));
        assert_eq!(limit.admit("a", start + 2 * interval), Some(0));
    }

    #[test]
    fn the_number_of_keys_is_limited() {
        let (limit, now) = (LineLimit::new(Duration::from_mins(1)), Instant::now());
        let admitted = (0..2 * KEYS_MAX).filter(|key| limit.admit(&key.to_string(), now).is_some());
        assert_eq!(admitted.count(), KEYS_MAX);
    }
}
