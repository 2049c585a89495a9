//! The state of both windows at one time, as the page shows it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::monitor::aggregator::Aggregator;
use crate::monitor::counts::{Counts, OUTCOMES, SCORE_BIN_WIDTH, SCORE_BINS, SeriesKey, add_each};
use crate::monitor::drift::population_stability_index;
use crate::monitor::engine_comparison::ShadowSnapshot;
use crate::monitor::filter::Filter;
use crate::monitor::label_set::LabelSet;
use crate::monitor::limits::{BUCKETS, DEAD_LETTER_CODES_MAX};
use crate::monitor::rejected_images::RejectedCard;
use crate::monitor::windows::Bucket;

/// Number of complete buckets over which the current rate is taken.
const RATE_BUCKETS: i64 = 2;

/// The answers of both windows at one time.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Time of the snapshot in milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// Time of the newest answer in milliseconds since 1970.
    pub(crate) newest_answer_ms: Option<i64>,
    pub(crate) window_s: u64,
    pub(crate) reference_s: u64,
    /// Events in the window that the filter accepts.
    pub(crate) events: u64,
    /// Events in the window.
    pub(crate) events_unfiltered: u64,
    /// Events whose combination of policy and metadata found no room, so that only an empty filter
    /// finds them.
    pub(crate) events_without_series: u64,
    pub(crate) dead_letters: u64,
    /// Records in the window that are no answers of this service.
    pub(crate) foreign: u64,
    /// Answers since the start that were older than both windows.
    pub(crate) too_old: u64,
    pub(crate) rate: Rate,
    pub(crate) scores: Scores,
    pub(crate) drift: Drift,
    /// Verdicts by policy, sorted by name.
    pub(crate) verdicts: Vec<Verdicts>,
    /// Events in the window that have a list of reasons.
    pub(crate) with_reasons: u64,
    /// Events by the codes of their reasons, most frequent first.
    pub(crate) reasons: Vec<LabelCount>,
    /// Dead letters by code, most frequent first.
    pub(crate) dead_letter_codes: Vec<LabelCount>,
    pub(crate) rejected: Vec<RejectedCard>,
    /// The comparison with the shadow. `None` if its events are not read.
    pub(crate) shadow: Option<ShadowSnapshot>,
    /// The policies to filter by.
    pub(crate) policies: Vec<String>,
    /// The values to filter by, for each name of `monitor.metadata`.
    pub(crate) metadata: Vec<MetadataValues>,
}

/// Answers per second.
#[derive(Debug, Serialize)]
pub(crate) struct Rate {
    /// Events per second in the latest complete buckets.
    pub(crate) events_per_s: f64,
    pub(crate) dead_letters_per_s: f64,
    /// Length of a bucket in seconds.
    pub(crate) bucket_s: f64,
    /// Events of each bucket of the window, oldest first. The last bucket is not complete.
    pub(crate) events: Vec<u64>,
    pub(crate) dead_letters: Vec<u64>,
}

/// The distribution of the scores.
#[derive(Debug, Serialize)]
pub(crate) struct Scores {
    pub(crate) bin_width: f64,
    /// Events by bin of score, from 0 on. The last bin also has all higher scores.
    pub(crate) now: Vec<u64>,
    pub(crate) reference: Vec<u64>,
    pub(crate) mean: Option<f64>,
    pub(crate) reference_mean: Option<f64>,
}

/// The change of the scores between the reference and now.
#[derive(Debug, Serialize)]
pub(crate) struct Drift {
    /// The population stability index. `None` without events in either window.
    pub(crate) psi: Option<f64>,
    pub(crate) alert: f64,
    pub(crate) events_min: u64,
    pub(crate) reference_events: u64,
    pub(crate) state: DriftState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DriftState {
    /// A window has too few events for a comparison.
    TooFewEvents,
    Stable,
    Drift,
}

/// The verdicts of one policy.
#[derive(Debug, Serialize)]
pub(crate) struct Verdicts {
    pub(crate) policy: String,
    pub(crate) events: u64,
    pub(crate) pass: u64,
    pub(crate) review: u64,
    pub(crate) reject: u64,
    /// Events without a verdict.
    pub(crate) none: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct LabelCount {
    pub(crate) code: String,
    pub(crate) count: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct MetadataValues {
    pub(crate) name: String,
    pub(crate) values: Vec<String>,
}

impl Snapshot {
    /// Returns the snapshot as JSON on one line.
    ///
    /// # Panics
    /// Never: a snapshot is plain data.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a snapshot is plain data")
    }
}

impl Aggregator {
    /// Returns the state at a time. Only events that the filter accepts are counted; dead letters
    /// have neither verdict nor metadata, so all of them are.
    pub fn snapshot(&mut self, filter: &Filter, now_ms: i64) -> Snapshot {
        self.windows.slide(now_ms);
        let accepts = self.accepts(filter);
        let recent = Self::sum(self.windows.recent().map(|bucket| &bucket.events), &accepts);
        let reference = Self::sum(self.windows.reference().map(|bucket| &bucket.events), &accepts);
        let mut codes = [0; DEAD_LETTER_CODES_MAX];
        let (mut foreign, mut events_unfiltered, mut events_without_series) = (0, 0, 0);
        for bucket in self.windows.recent() {
            add_each(&mut codes, &bucket.dead_letters);
            foreign += bucket.foreign;
            events_unfiltered += bucket.events.events(&|_| true);
            let without = bucket.events.get(SeriesKey::OTHER);
            events_without_series += without.map_or(0, |counts| counts.events);
        }
        let oldest_ms = self.windows.oldest_ms();
        let names = self.settings.metadata.iter().zip(&self.metadata);
        Snapshot {
            now_ms,
            newest_answer_ms: self.newest_answer_ms,
            window_s: self.settings.window.as_secs(),
            reference_s: self.settings.reference.as_secs(),
            events: recent.events,
            events_unfiltered,
            events_without_series,
            dead_letters: codes.iter().sum(),
            foreign,
            too_old: self.too_old,
            rate: self.rate(&accepts),
            drift: self.drift(&recent, &reference),
            verdicts: self.verdicts(&accepts),
            with_reasons: recent.with_reasons,
            reasons: most_frequent(&self.reasons, &recent.reasons),
            dead_letter_codes: most_frequent(&self.codes, &codes),
            rejected: self.rejected_cards(&accepts, oldest_ms),
            shadow: self.shadow_snapshot(&accepts, &recent),
            policies: self.policies.retained(oldest_ms),
            metadata: names
                .map(|(name, set)| MetadataValues {
                    name: name.clone(),
                    values: set.retained(oldest_ms),
                })
                .collect(),
            scores: Scores {
                bin_width: SCORE_BIN_WIDTH,
                mean: recent.mean(),
                reference_mean: reference.mean(),
                now: recent.scores.to_vec(),
                reference: reference.scores.to_vec(),
            },
        }
    }

    fn drift(&self, recent: &Counts, reference: &Counts) -> Drift {
        let psi = population_stability_index(&recent.scores, &reference.scores);
        let (alert, events_min) = (self.settings.drift_alert, self.settings.drift_events_min);
        let has_enough = recent.events.min(reference.events) >= events_min;
        let state = match psi.filter(|_| has_enough) {
            None => DriftState::TooFewEvents,
            Some(psi) if psi >= alert => DriftState::Drift,
            Some(_) => DriftState::Stable,
        };
        Drift { psi, alert, events_min, reference_events: reference.events, state }
    }

    fn rate(&self, accepts: &impl Fn(&SeriesKey) -> bool) -> Rate {
        let first = self.windows.first_recent();
        let buckets = usize::from(BUCKETS);
        let (mut events, mut dead_letters) = (vec![0; buckets], vec![0; buckets]);
        for bucket in self.windows.recent() {
            let Ok(position) = usize::try_from(bucket.index - first) else { continue };
            events[position] = bucket.events.events(accepts);
            dead_letters[position] = bucket.dead_letter_count();
        }
        Rate {
            events_per_s: self.per_s(|bucket| bucket.events.events(accepts)),
            dead_letters_per_s: self.per_s(Bucket::dead_letter_count),
            bucket_s: self.bucket_s(),
            events,
            dead_letters,
        }
    }

    /// Returns a count per second over the latest complete buckets.
    fn per_s(&self, count: impl Fn(&Bucket) -> u64) -> f64 {
        let complete = self.windows.newest() - RATE_BUCKETS..self.windows.newest();
        let buckets = self.windows.recent().filter(|bucket| complete.contains(&bucket.index));
        buckets.map(count).sum::<u64>() as f64 / (RATE_BUCKETS as f64 * self.bucket_s())
    }

    fn bucket_s(&self) -> f64 {
        self.windows.bucket_ms() as f64 / 1000.0
    }

    fn shadow_snapshot(
        &self,
        accepts: &impl Fn(&SeriesKey) -> bool,
        live: &Counts,
    ) -> Option<ShadowSnapshot> {
        let shadow = self.shadow.as_ref()?;
        let recent = self.windows.recent().map(|bucket| &bucket.shadow_events);
        let counts = (live, &Self::sum(recent, accepts));
        let per_s = self.per_s(|bucket| bucket.shadow_events.events(accepts));
        Some(shadow.snapshot(self.windows.first_recent_ms(), accepts, counts, per_s))
    }

    fn verdicts(&self, accepts: &impl Fn(&SeriesKey) -> bool) -> Vec<Verdicts> {
        let mut by_policy: BTreeMap<&str, [u64; OUTCOMES.len()]> = BTreeMap::new();
        for bucket in self.windows.recent() {
            for (series, counts) in bucket.events.iter().filter(|(series, _)| accepts(series)) {
                let name = self.policies.name(series.policy);
                add_each(by_policy.entry(name).or_default(), &counts.outcomes);
            }
        }
        let verdicts = |(policy, [pass, review, reject, none]): (&str, [u64; OUTCOMES.len()])| {
            let events = pass + review + reject + none;
            Verdicts { policy: policy.to_owned(), events, pass, review, reject, none }
        };
        by_policy.into_iter().map(verdicts).collect()
    }

    fn rejected_cards(
        &self,
        accepts: &impl Fn(&SeriesKey) -> bool,
        oldest_ms: i64,
    ) -> Vec<RejectedCard> {
        let images = self.rejected.newest_first();
        // The labels of older images may be used again.
        let shown = images.filter(|image| image.card.at_ms >= oldest_ms && accepts(&image.series));
        shown.take(self.settings.rejected.get()).map(|image| image.card.clone()).collect()
    }
}

fn most_frequent(names: &LabelSet, counts: &[u64]) -> Vec<LabelCount> {
    let counted = (0..).zip(counts).filter(|(_, count)| **count > 0);
    let named = counted
        .map(|(number, count)| LabelCount { code: names.name(number).to_owned(), count: *count });
    let mut labels: Vec<_> = named.collect();
    labels.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.code.cmp(&b.code)));
    labels
}

const _: () = assert!(SCORE_BINS >= 72, "2K = 18 is the highest usual score");
