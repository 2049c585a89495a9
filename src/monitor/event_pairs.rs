//! Pairs the events of the live engine and of the shadow, by the ids of their references.
//!
//! Memory is fixed. An event finds its partner among the latest [`EVENTS_WAITING_MAX`] events of
//! the other topic, and the latest [`PAIRS_MAX`] pairs are kept. An id that is written again
//! replaces an event that still waits. An event without a partner by then has no pair.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::method::agreement::srcc;
use crate::monitor::counts::{NO_VERDICT, SeriesKey};
use crate::monitor::limits::{EVENTS_WAITING_MAX, PAIRS_MAX};

/// The first bytes of the SHA-256 of an id.
type IdDigest = [u8; 16];

/// The part of an event that a pair needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairedEvent {
    pub(crate) score: f64,
    /// Position in [`OUTCOMES`](crate::monitor::counts::OUTCOMES).
    pub(crate) outcome: usize,
    pub(crate) series: SeriesKey,
    /// Time of the record in milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// Two events of one reference.
#[derive(Debug, Clone, Copy)]
struct Pair {
    live: PairedEvent,
    shadow: PairedEvent,
}

/// The engine that wrote an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScoredBy {
    Live,
    Shadow,
}

/// The latest events of one topic, of which some have no partner yet.
#[derive(Debug)]
struct UnpairedEvents {
    /// The ids, oldest first.
    ids: VecDeque<IdDigest>,
    /// Number of events that were removed from `ids`.
    removed: u64,
    /// Each event that waits, with its number.
    waiting: HashMap<IdDigest, (u64, PairedEvent)>,
}

/// The events that wait, and the latest pairs.
#[derive(Debug, Default)]
pub(crate) struct EventPairs {
    live: UnpairedEvents,
    shadow: UnpairedEvents,
    /// The pairs in the order in which their second events were read.
    pairs: VecDeque<Pair>,
    /// Time of the newest pair that made room for another.
    dropped_ms: Option<i64>,
}

/// Agreement of the engines over the pairs whose live events are in the window.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct PairSummary {
    pub(crate) pairs: usize,
    /// True if the window had more pairs than are kept. The summary has the latest ones.
    pub(crate) is_limited: bool,
    /// Mean of the shadow's scores minus the live engine's. `None` without pairs.
    pub(crate) mean_difference: Option<f64>,
    /// Mean of the differences without their signs.
    pub(crate) mean_absolute_difference: Option<f64>,
    /// Spearman's rank correlation. `None` if it is not defined, as for equal scores.
    pub(crate) srcc: Option<f64>,
    /// Pairs with a verdict of both.
    pub(crate) verdicts: usize,
    /// Pairs whose verdicts differ.
    pub(crate) changed_verdicts: usize,
}

impl Default for UnpairedEvents {
    fn default() -> Self {
        // A table that is at most half full never grows, however many events come and go.
        let waiting = HashMap::with_capacity(2 * EVENTS_WAITING_MAX);
        Self { ids: VecDeque::new(), removed: 0, waiting }
    }
}

impl UnpairedEvents {
    fn add(&mut self, id: IdDigest, event: PairedEvent) {
        if self.ids.len() == EVENTS_WAITING_MAX
            && let Some(oldest) = self.ids.pop_front()
        {
            if self.waiting.get(&oldest).is_some_and(|(number, _)| *number == self.removed) {
                self.waiting.remove(&oldest);
            }
            self.removed += 1;
        }
        let number = self.removed + self.ids.len() as u64;
        self.ids.push_back(id);
        self.waiting.insert(id, (number, event));
    }

    fn take(&mut self, id: &IdDigest) -> Option<PairedEvent> {
        self.waiting.remove(id).map(|(_, event)| event)
    }
}

impl EventPairs {
    /// Adds an event of a reference with this id.
    pub(crate) fn add(&mut self, side: ScoredBy, id: &str, event: PairedEvent) {
        let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        let (id, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
        let (own, other) = match side {
            ScoredBy::Live => (&mut self.live, &mut self.shadow),
            ScoredBy::Shadow => (&mut self.shadow, &mut self.live),
        };
        let Some(partner) = other.take(id) else { return own.add(*id, event) };
        let pair = match side {
            ScoredBy::Live => Pair { live: event, shadow: partner },
            ScoredBy::Shadow => Pair { live: partner, shadow: event },
        };
        if self.pairs.len() == PAIRS_MAX
            && let Some(oldest) = self.pairs.pop_front()
        {
            self.dropped_ms = self.dropped_ms.max(Some(oldest.live.at_ms));
        }
        self.pairs.push_back(pair);
    }

    /// Summarises the pairs whose live events are not before `first_ms` and of a series that
    /// `accepts` accepts.
    pub(crate) fn summary(
        &self,
        first_ms: i64,
        accepts: &impl Fn(&SeriesKey) -> bool,
    ) -> PairSummary {
        let is_shown = |pair: &&Pair| pair.live.at_ms >= first_ms && accepts(&pair.live.series);
        let pairs: Vec<&Pair> = self.pairs.iter().filter(is_shown).collect();
        let live: Vec<f64> = pairs.iter().map(|pair| pair.live.score).collect();
        let shadow: Vec<f64> = pairs.iter().map(|pair| pair.shadow.score).collect();
        let differences = || shadow.iter().zip(&live).map(|(shadow, live)| shadow - live);
        let mean = |sum: f64| (!pairs.is_empty()).then(|| sum / pairs.len() as f64);
        let outcomes = pairs.iter().map(|pair| (pair.live.outcome, pair.shadow.outcome));
        let with_both = outcomes.filter(|(live, shadow)| *live.max(shadow) < NO_VERDICT);
        let (verdicts, changed_verdicts) = with_both
            .fold((0, 0), |(all, changed), (live, shadow)| {
                (all + 1, changed + usize::from(live != shadow))
            });
        PairSummary {
            pairs: pairs.len(),
            is_limited: self.dropped_ms.is_some_and(|dropped_ms| dropped_ms >= first_ms),
            mean_difference: mean(differences().sum()),
            mean_absolute_difference: mean(differences().map(f64::abs).sum()),
            srcc: srcc(&shadow, &live).ok(),
            verdicts,
            changed_verdicts,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: SeriesKey = SeriesKey { policy: 2, metadata: [0; 4] };

    fn event(score: f64, outcome: usize, at_ms: i64) -> PairedEvent {
        PairedEvent { score, outcome, series: KEY, at_ms }
    }

    fn all(pairs: &EventPairs) -> PairSummary {
        pairs.summary(0, &|_| true)
    }

    #[test]
    fn pairs_are_found_in_both_orders_and_compared_from_live_to_shadow() {
        let mut pairs = EventPairs::default();
        assert_eq!(all(&pairs).mean_difference, None);
        // The first two ranks are swapped, and one verdict changes. The last has no verdict.
        let scores = [(1.0, 2.5, 0), (2.0, 1.5, 0), (3.0, 3.5, 2), (4.0, 4.5, NO_VERDICT)];
        for (number, (live, shadow, outcome)) in scores.into_iter().enumerate() {
            let id = format!("upload-{number}");
            let mut sides = [
                (ScoredBy::Live, event(live, 0, 10)),
                (ScoredBy::Shadow, event(shadow, outcome, 11)),
            ];
            if number % 2 == 1 {
                sides.reverse();
            }
            for (side, event) in sides {
                pairs.add(side, &id, event);
            }
        }
        pairs.add(ScoredBy::Live, "alone", event(9.0, 0, 12));
        let summary = all(&pairs);
        assert_eq!((summary.pairs, summary.verdicts, summary.changed_verdicts), (4, 3, 1));
        assert!(!summary.is_limited);
        assert!((summary.mean_difference.unwrap() - 0.5).abs() < 1e-12, "{summary:?}");
        assert!((summary.mean_absolute_difference.unwrap() - 0.75).abs() < 1e-12, "{summary:?}");
        // 1 − 6 · (1 + 1) / (4 · 15)
        assert!((summary.srcc.unwrap() - 0.8).abs() < 1e-12, "{summary:?}");
        assert_eq!(pairs.summary(11, &|_| true).pairs, 0, "the live events are older");
        assert_eq!(pairs.summary(0, &|series| *series != KEY).pairs, 0);
    }

    #[test]
    fn a_repeated_event_replaces_the_one_that_waits() {
        let mut pairs = EventPairs::default();
        for score in [1.0, 2.0] {
            pairs.add(ScoredBy::Live, "a", event(score, 0, 1));
        }
        for _ in 0..2 {
            pairs.add(ScoredBy::Shadow, "a", event(5.0, 0, 2));
        }
        let summary = all(&pairs);
        assert_eq!((summary.pairs, summary.mean_difference, summary.srcc), (1, Some(3.0), None));
    }

    #[test]
    fn an_event_that_waits_too_long_has_no_pair_and_the_latest_pairs_are_kept() {
        let mut pairs = EventPairs::default();
        for number in 0..=EVENTS_WAITING_MAX {
            pairs.add(ScoredBy::Live, &number.to_string(), event(1.0, 0, 1));
        }
        pairs.add(ScoredBy::Shadow, "0", event(2.0, 0, 1));
        assert_eq!(all(&pairs).pairs, 0, "the oldest made room");
        pairs.add(ScoredBy::Shadow, "1", event(2.0, 0, 1));
        assert_eq!(all(&pairs).pairs, 1);
        for number in 0..PAIRS_MAX {
            let id = format!("later-{number}");
            pairs.add(ScoredBy::Live, &id, event(1.0, 0, 5));
            pairs.add(ScoredBy::Shadow, &id, event(2.0, 0, 6));
        }
        let summary = all(&pairs);
        assert_eq!((summary.pairs, summary.is_limited), (PAIRS_MAX, true));
        assert!(!pairs.summary(2, &|_| true).is_limited, "only an older pair was dropped");
    }

    #[test]
    fn memory_does_not_grow_with_the_events() {
        let add = |pairs: &mut EventPairs, from: usize, to: usize| {
            for number in from..to {
                pairs.add(ScoredBy::Live, &format!("live-{number}"), event(1.0, 0, 1));
                pairs.add(ScoredBy::Shadow, &format!("shadow-{number}"), event(1.0, 0, 1));
                for side in [ScoredBy::Live, ScoredBy::Shadow] {
                    pairs.add(side, &format!("both-{number}"), event(1.0, 0, 1));
                }
            }
        };
        let full = EVENTS_WAITING_MAX + EVENTS_WAITING_MAX / 4;
        let mut pairs = None;
        let first = allocation_counter::measure(|| {
            add(pairs.insert(EventPairs::default()), 0, full);
        });
        assert!(first.bytes_current < 20 << 20, "{} bytes", first.bytes_current);
        let pairs = &mut pairs.unwrap();
        let second = allocation_counter::measure(|| add(pairs, full, 2 * full));
        assert!(second.bytes_current <= 0, "{} bytes more", second.bytes_current);
    }

    proptest! {
        #[test]
        fn pairs_equal_those_of_a_list(
            events in prop::collection::vec((any::<bool>(), 0_u8..20), 0..200),
        ) {
            let mut pairs = EventPairs::default();
            let mut waiting: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
            let mut expected = 0;
            for (is_shadow, id) in events {
                let side = if is_shadow { ScoredBy::Shadow } else { ScoredBy::Live };
                pairs.add(side, &id.to_string(), event(1.0, 0, 1));
                let (own, other) = (usize::from(is_shadow), usize::from(!is_shadow));
                if waiting[other].contains(&id) {
                    waiting[other].retain(|known| *known != id);
                    expected += 1;
                } else if !waiting[own].contains(&id) {
                    waiting[own].push(id);
                }
            }
            prop_assert_eq!(all(&pairs).pairs, expected);
        }
    }
}
