//! The counts of the events of one series: a combination of policy and metadata.

use std::collections::HashMap;

use crate::monitor::label_set::OTHER;
use crate::monitor::limits::{LABELS_MAX, METADATA_KEYS_MAX, SERIES_MAX};

/// Number of score bins. The last one also has all higher scores.
pub(crate) const SCORE_BINS: usize = 80;
/// Width of a score bin.
pub(crate) const SCORE_BIN_WIDTH: f64 = 0.25;

/// The verdicts in the order in which they are counted. The last one counts events without one.
pub(crate) const OUTCOMES: [&str; 4] = ["pass", "review", "reject", "none"];
/// Position of `reject` in [`OUTCOMES`].
pub(crate) const REJECT: usize = 2;
/// Position of `none` in [`OUTCOMES`].
pub(crate) const NO_VERDICT: usize = 3;

/// The labels of an event, as numbers of their sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SeriesKey {
    pub(crate) policy: u8,
    /// The values of `monitor.metadata`, in its order. Unused places are 0.
    pub(crate) metadata: [u8; METADATA_KEYS_MAX],
}

impl SeriesKey {
    /// The series of all combinations that found no room.
    pub(crate) const OTHER: Self = Self { policy: OTHER, metadata: [OTHER; METADATA_KEYS_MAX] };
}

/// The counts of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) score_sum: f64,
    /// Events by score.
    pub(crate) scores: [u64; SCORE_BINS],
    /// Events by verdict, in the order of [`OUTCOMES`].
    pub(crate) outcomes: [u64; OUTCOMES.len()],
    /// Events that have a list of reasons, even an empty one.
    pub(crate) with_reasons: u64,
    /// Events by the codes of their reasons.
    pub(crate) reasons: [u64; LABELS_MAX],
}

/// The counts of each series.
#[derive(Debug, Default)]
pub(crate) struct SeriesCounts(HashMap<SeriesKey, Box<Counts>>);

impl SeriesCounts {
    /// Returns the counts of a series, or those of all others if there is no room for it.
    pub(crate) fn counts_mut(&mut self, key: SeriesKey) -> &mut Counts {
        let has_room = self.0.len() + 1 < SERIES_MAX || self.0.contains_key(&key);
        let key = if has_room { key } else { SeriesKey::OTHER };
        self.0.entry(key).or_default()
    }

    pub(crate) fn get(&self, key: SeriesKey) -> Option<&Counts> {
        self.0.get(&key).map(Box::as_ref)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SeriesKey, &Counts)> {
        self.0.iter().map(|(key, counts)| (key, counts.as_ref()))
    }

    /// Returns the number of events of some series.
    pub(crate) fn events(&self, accepts: &impl Fn(&SeriesKey) -> bool) -> u64 {
        self.iter().filter(|(key, _)| accepts(key)).map(|(_, counts)| counts.events).sum()
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            events: 0,
            score_sum: 0.0,
            scores: [0; SCORE_BINS],
            outcomes: [0; OUTCOMES.len()],
            with_reasons: 0,
            reasons: [0; LABELS_MAX],
        }
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.score_sum += other.score_sum;
        self.with_reasons += other.with_reasons;
        add_each(&mut self.scores, &other.scores);
        add_each(&mut self.outcomes, &other.outcomes);
        add_each(&mut self.reasons, &other.reasons);
    }

    /// Adds an event with a score and a verdict, by its position in [`OUTCOMES`].
    pub(crate) fn add_event(&mut self, score: f64, outcome: usize) {
        self.events += 1;
        self.outcomes[outcome] += 1;
        self.score_sum += score;
        self.scores[score_bin(score)] += 1;
    }

    /// Returns the mean score, or `None` without events.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.events > 0).then(|| self.score_sum / self.events as f64)
    }
}

/// Adds counts place by place.
pub(crate) fn add_each(counts: &mut [u64], others: &[u64]) {
    for (count, other) in counts.iter_mut().zip(others) {
        *count += other;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the bins; NaN becomes 0"
)]
fn score_bin(score: f64) -> usize {
    (score / SCORE_BIN_WIDTH).clamp(0.0, (SCORE_BINS - 1) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_has_a_bin() {
        for (score, bin) in
            [(0.0, 0), (0.24, 0), (0.25, 1), (7.3, 29), (19.99, 79), (1e300, 79), (-5.0, 0)]
        {
            assert_eq!(score_bin(score), bin, "{score}");
        }
        assert_eq!(score_bin(f64::NAN), 0);
    }
}
