//! Two windows that slide over the answers in fixed buckets of time: the recent one, and the
//! reference before it.
//!
//! A bucket that leaves the recent window is added to the reference. An answer is counted by its
//! record's time; one from the future counts as now. Memory depends only on the number of buckets
//! and of series.

use std::collections::VecDeque;
use std::time::Duration;

use crate::monitor::counts::{SeriesCounts, add_each};
use crate::monitor::limits::{BUCKETS, DEAD_LETTER_CODES_MAX};

/// The answers of a span of time.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Start of the span divided by its length.
    pub(crate) index: i64,
    pub(crate) events: SeriesCounts,
    /// Events of the shadow. The reference has none.
    pub(crate) shadow_events: SeriesCounts,
    /// Dead letters by the number of their code.
    pub(crate) dead_letters: [u64; DEAD_LETTER_CODES_MAX],
    /// Records that are no answers of this service.
    pub(crate) foreign: u64,
}

/// The buckets of one window, oldest first. Buckets without answers are left out.
#[derive(Debug)]
struct Ring {
    bucket_ms: i64,
    buckets: VecDeque<Bucket>,
}

/// Both windows.
#[derive(Debug)]
pub(crate) struct Windows {
    recent: Ring,
    reference: Ring,
    /// The latest time that was given as now.
    now_ms: i64,
}

impl Bucket {
    fn new(index: i64) -> Self {
        let dead_letters = [0; DEAD_LETTER_CODES_MAX];
        let (events, shadow_events) = (SeriesCounts::default(), SeriesCounts::default());
        Self { index, events, shadow_events, dead_letters, foreign: 0 }
    }

    /// Adds the answers of another bucket. Events of the shadow are left out.
    fn absorb(&mut self, other: &Self) {
        for (key, counts) in other.events.iter() {
            self.events.counts_mut(*key).add(counts);
        }
        add_each(&mut self.dead_letters, &other.dead_letters);
        self.foreign += other.foreign;
    }

    /// Returns the number of dead letters.
    pub(crate) fn dead_letter_count(&self) -> u64 {
        self.dead_letters.iter().sum()
    }
}

impl Ring {
    fn new(window: Duration) -> Self {
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let bucket_ms = (window_ms / i64::from(BUCKETS)).max(1);
        Self { bucket_ms, buckets: VecDeque::with_capacity(usize::from(BUCKETS) + 1) }
    }

    fn index(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.bucket_ms)
    }

    fn bucket_mut(&mut self, index: i64) -> &mut Bucket {
        // The newest bucket is nearly always the right one.
        let position = match self.buckets.iter().rposition(|bucket| bucket.index <= index) {
            Some(position) if self.buckets[position].index == index => position,
            before => {
                let position = before.map_or(0, |before| before + 1);
                self.buckets.insert(position, Bucket::new(index));
                position
            }
        };
        &mut self.buckets[position]
    }

    /// Removes the oldest bucket if its index is below `first`.
    fn pop_before(&mut self, first: i64) -> Option<Bucket> {
        let is_before = self.buckets.front().is_some_and(|bucket| bucket.index < first);
        if is_before { self.buckets.pop_front() } else { None }
    }
}

impl Windows {
    pub(crate) fn new(recent: Duration, reference: Duration) -> Self {
        Self { recent: Ring::new(recent), reference: Ring::new(reference), now_ms: 0 }
    }

    /// Slides both windows so that the recent one ends now. An earlier time than before does
    /// nothing.
    pub(crate) fn slide(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        let first = self.first_recent();
        let first_of_reference = self.first_of_reference();
        while let Some(bucket) = self.recent.pop_before(first) {
            let index = self.reference.index(bucket.index * self.recent.bucket_ms);
            if index >= first_of_reference {
                self.reference.bucket_mut(index).absorb(&bucket);
            }
        }
        while self.reference.pop_before(first_of_reference).is_some() {}
    }

    /// Returns the bucket of a time, or `None` if it is before the reference. Call
    /// [`Self::slide`] first.
    pub(crate) fn bucket_mut(&mut self, at_ms: i64) -> Option<&mut Bucket> {
        let at_ms = at_ms.clamp(0, self.now_ms);
        let recent = self.recent.index(at_ms);
        if recent >= self.first_recent() {
            return Some(self.recent.bucket_mut(recent));
        }
        let index = self.reference.index(recent * self.recent.bucket_ms);
        (index >= self.first_of_reference()).then(|| self.reference.bucket_mut(index))
    }

    /// Returns the start of the oldest bucket that is retained.
    pub(crate) fn oldest_ms(&self) -> i64 {
        self.first_of_reference() * self.reference.bucket_ms
    }

    pub(crate) fn bucket_ms(&self) -> i64 {
        self.recent.bucket_ms
    }

    /// Returns the index of the newest bucket of the recent window.
    pub(crate) fn newest(&self) -> i64 {
        self.recent.index(self.now_ms)
    }

    /// Returns the buckets of the recent window that have answers, oldest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &Bucket> {
        self.recent.buckets.iter()
    }

    /// Returns the buckets of the reference that have answers, oldest first.
    pub(crate) fn reference(&self) -> impl Iterator<Item = &Bucket> {
        self.reference.buckets.iter()
    }

    /// Returns the start of the recent window.
    pub(crate) fn first_recent_ms(&self) -> i64 {
        self.first_recent() * self.recent.bucket_ms
    }

    /// Returns the index of the oldest bucket of the recent window.
    pub(crate) fn first_recent(&self) -> i64 {
        self.newest() - i64::from(BUCKETS) + 1
    }

    fn first_of_reference(&self) -> i64 {
        self.reference.index(self.first_recent_ms() - 1) - i64::from(BUCKETS) + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::monitor::counts::{NO_VERDICT, SeriesKey};
    use crate::monitor::limits::SERIES_MAX;

    const RECENT: Duration = Duration::from_mins(1);
    const REFERENCE: Duration = Duration::from_mins(10);

    fn key(policy: u8) -> SeriesKey {
        SeriesKey { policy, metadata: [0; 4] }
    }

    fn add(windows: &mut Windows, at_ms: i64, now_ms: i64, policy: u8) -> bool {
        windows.slide(now_ms);
        let bucket = windows.bucket_mut(at_ms);
        let counted = bucket.map(|bucket| {
            bucket.events.counts_mut(key(policy)).add_event(1.0, NO_VERDICT);
            bucket.shadow_events.counts_mut(key(policy)).add_event(1.0, NO_VERDICT);
        });
        counted.is_some()
    }

    fn total<'a>(buckets: impl Iterator<Item = &'a Bucket>, policy: u8) -> u64 {
        buckets.filter_map(|bucket| bucket.events.get(key(policy))).map(|it| it.events).sum()
    }

    #[test]
    fn an_answer_moves_from_the_window_to_the_reference_and_is_forgotten() {
        let mut windows = Windows::new(RECENT, REFERENCE);
        let start = 1_000_000_000_000;
        assert!(add(&mut windows, start, start, 7));
        for (seconds, recent, reference) in
            [(0, 1, 0), (59, 1, 0), (61, 0, 1), (600, 0, 1), (672, 0, 0)]
        {
            windows.slide(start + seconds * 1000);
            let counts = (total(windows.recent(), 7), total(windows.reference(), 7));
            assert_eq!(counts, (recent, reference), "after {seconds} s");
            let mut of_shadow = windows.reference().map(|it| it.shadow_events.events(&|_| true));
            assert!(of_shadow.all(|events| events == 0), "the reference is of the answers");
        }
        assert!(!add(&mut windows, start, start, 7), "too old");
        assert!(add(&mut windows, i64::MAX, start, 7), "a time in the future is now");
        assert_eq!(total(windows.recent(), 7), 1);
    }

    #[test]
    fn hostile_combinations_share_the_last_series() {
        let mut windows = Windows::new(RECENT, REFERENCE);
        windows.slide(0);
        for number in 0..10_000_u32 {
            let [a, b, ..] = number.to_le_bytes();
            let bucket = windows.bucket_mut(0).unwrap();
            let key = SeriesKey { policy: a, metadata: [b, 0, 0, 0] };
            bucket.events.counts_mut(key).add_event(1.0, NO_VERDICT);
        }
        let bucket = windows.recent().next().unwrap();
        assert_eq!(bucket.events.iter().count(), SERIES_MAX);
        assert_eq!(bucket.events.events(&|_| true), 10_000);
    }

    proptest! {
        #[test]
        fn both_windows_equal_a_list_of_all_answers(
            answers in prop::collection::vec((0_i64..2_000_000, 0_i64..3_000), 1..300),
            after in 0_i64..700_000,
        ) {
            let mut windows = Windows::new(RECENT, REFERENCE);
            let mut now = 1_000_000;
            let mut times = Vec::new();
            for (at, step) in answers {
                now += step;
                add(&mut windows, at, now, 2);
                times.push(at.min(now));
            }
            now += after;
            windows.slide(now);
            // Recent buckets have a second, those of the reference ten.
            let recent = |at: &i64| at / 1000 > now / 1000 - 60;
            let end = (now / 1000 - 59) * 1000;
            let last = (end - 1).div_euclid(10_000);
            let reference = |at: &i64| {
                !recent(at) && (at / 1000 * 1000).div_euclid(10_000) > last - 60
            };
            let count = |is_in: &dyn Fn(&i64) -> bool| {
                times.iter().filter(|at| is_in(at)).count() as u64
            };
            prop_assert_eq!(total(windows.recent(), 2), count(&recent));
            prop_assert_eq!(total(windows.reference(), 2), count(&reference));
            let buckets = windows.recent().count().max(windows.reference().count());
            prop_assert!(buckets <= usize::from(BUCKETS));
        }
    }
}
