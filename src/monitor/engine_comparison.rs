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

/// The engine of the latest event of a topic.
#[derive(Debug, Default)]
struct SeenEngine {
    engine: Option<ShownEngine>,
    /// Time of the newest event of another engine.
    other_ms: Option<i64>,
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
    /// The engine of the latest event of the shadow.
    pub(crate) engine: Option<ShownEngine>,
    /// The engine of the latest answer.
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
    fn add(&mut self, engine: ShownEngine, at_ms: i64) {
        if self.engine.as_ref().is_some_and(|known| *known != engine) {
            self.other_ms = Some(self.newest_ms);
        }
        self.engine = Some(engine);
        self.newest_ms = self.newest_ms.max(at_ms);
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
