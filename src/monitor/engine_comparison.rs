//! The comparison of the live engine with a shadow, as the page shows it.

use serde::Serialize;

use crate::monitor::answer_record::{EngineRecord, EventRecord};
use crate::monitor::counts::{Counts, SeriesKey};
use crate::monitor::drift::population_stability_index;
use crate::monitor::event_pairs::{EventPairs, PairSummary, PairedEvent, ScoredBy};
use crate::monitor::limits::{TEXT_BYTES_MAX, WEIGHTS_MAX};
use crate::monitor::short_text::short;

/// Digits of a digest of weights that are shown.
const DIGEST_LENGTH: usize = 12;

/// The engines of both topics, and the pairs of their events.
#[derive(Debug, Default)]
pub(crate) struct EngineComparison {
    live: SeenEngine,
    shadow: SeenEngine,
    pairs: EventPairs,
}

/// The engine of the newest event of a topic.
#[derive(Debug, Default)]
struct SeenEngine {
    engine: Option<ShownEngine>,
    /// Time of the newest event of another engine.
    other_ms: Option<i64>,
    /// Time of the newest event of `engine`.
    newest_ms: i64,
}

/// An engine as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShownEngine {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) segmenter: String,
    pub(crate) scorer: String,
    /// Fingerprint of the settings.
    pub(crate) settings: String,
    /// The first digits of the digests of the weights.
    pub(crate) weights: Vec<String>,
}

/// The shadow in the window, next to the live engine.
#[derive(Debug, Serialize)]
pub(crate) struct ShadowSnapshot {
    /// The engine of the newest event of the shadow.
    pub(crate) engine: Option<ShownEngine>,
    /// The engine of the newest event.
    pub(crate) live_engine: Option<ShownEngine>,
    /// True if a topic has events of more than one engine in the window.
    pub(crate) is_mixed: bool,
    pub(crate) events: u64,
    /// Events per second in the latest complete buckets.
    pub(crate) events_per_s: f64,
    /// Events by bin of score, from 0 on, as in `scores.now` of the live engine.
    pub(crate) scores: Vec<u64>,
    pub(crate) mean: Option<f64>,
    /// The population stability index of the shadow's scores against the live engine's in the
    /// window. `None` without events of both.
    pub(crate) psi: Option<f64>,
    pub(crate) pairs: PairSummary,
}

impl EngineComparison {
    /// Adds an event of the window.
    pub(crate) fn add(&mut self, side: ScoredBy, event: &EventRecord<'_>, paired: PairedEvent) {
        let seen = match side {
            ScoredBy::Live => &mut self.live,
            ScoredBy::Shadow => &mut self.shadow,
        };
        if let Some(engine) = event.engine().as_ref().map(ShownEngine::of) {
            seen.add(engine, paired.at_ms);
        }
        self.pairs.add(side, &event.reference.id, paired);
    }

    /// Returns the comparison from `first_ms` on. Both counts are those that the filter accepts.
    pub(crate) fn snapshot(
        &self,
        first_ms: i64,
        accepts: &impl Fn(&SeriesKey) -> bool,
        (live, shadow): (&Counts, &Counts),
        events_per_s: f64,
    ) -> ShadowSnapshot {
        let engines = [&self.live, &self.shadow];
        ShadowSnapshot {
            engine: self.shadow.engine.clone(),
            live_engine: self.live.engine.clone(),
            is_mixed: engines.iter().any(|seen| seen.other_ms >= Some(first_ms)),
            events: shadow.events,
            events_per_s,
            scores: shadow.scores.to_vec(),
            mean: shadow.mean(),
            psi: population_stability_index(&shadow.scores, &live.scores),
            pairs: self.pairs.summary(first_ms, accepts),
        }
    }
}

impl SeenEngine {
    /// Adds the engine of an event. Partitions are read at different speeds, so an event may be
    /// older than others that were read before it.
    fn add(&mut self, engine: ShownEngine, at_ms: i64) {
        let is_newest = at_ms >= self.newest_ms;
        if self.engine.as_ref().is_some_and(|known| *known != engine) {
            let other_ms = if is_newest { self.newest_ms } else { at_ms };
            self.other_ms = self.other_ms.max(Some(other_ms));
        }
        if is_newest {
            self.engine = Some(engine);
            self.newest_ms = at_ms;
        }
    }
}

impl ShownEngine {
    fn of(engine: &EngineRecord<'_>) -> Self {
        let shown = |text: &str| short(text, TEXT_BYTES_MAX);
        let weights = engine.weights().take(WEIGHTS_MAX);
        Self {
            name: shown(&engine.name),
            version: shown(&engine.version),
            segmenter: shown(&engine.segmenter),
            scorer: shown(&engine.scorer),
            settings: shown(&engine.settings),
            weights: weights.map(|sha256| short(sha256, DIGEST_LENGTH)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(name: &str) -> ShownEngine {
        let name = name.to_owned();
        let [version, segmenter, scorer, settings] = [const { String::new() }; 4];
        ShownEngine { name, version, segmenter, scorer, settings, weights: Vec::new() }
    }

    #[test]
    fn the_shown_engine_is_that_of_the_newest_event_in_any_order_of_reading() {
        let events = [("old", 10), ("old", 20), ("new", 30), ("new", 40)];
        for order in [[0, 1, 2, 3], [2, 3, 0, 1], [3, 1, 2, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut seen = SeenEngine::default();
            for (name, at_ms) in order.map(|index| events[index]) {
                seen.add(engine(name), at_ms);
            }
            assert_eq!(seen.engine, Some(engine("new")), "{order:?}");
            assert_eq!((seen.other_ms, seen.newest_ms), (Some(20), 40), "{order:?}");
        }
    }

    #[test]
    fn events_of_one_engine_are_not_mixed() {
        let mut seen = SeenEngine::default();
        for at_ms in [20, 10, 30] {
            seen.add(engine("only"), at_ms);
        }
        assert_eq!((seen.other_ms, seen.newest_ms), (None, 30));
    }
}
