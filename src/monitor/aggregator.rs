//! Counts answers in sliding windows. Pure: the caller gives every time, and memory does not
//! depend on the number or the content of the answers.

use crate::monitor::answer_record::EventRecord;
use crate::monitor::counts::{Counts, NO_VERDICT, OUTCOMES, REJECT, SeriesCounts, SeriesKey};
use crate::monitor::engine_comparison::EngineComparison;
use crate::monitor::event_pairs::{PairedEvent, ScoredBy};
use crate::monitor::filter::Filter;
use crate::monitor::label_set::LabelSet;
use crate::monitor::limits::{DEAD_LETTER_CODES_MAX, LABELS_MAX, METADATA_KEYS_MAX};
use crate::monitor::rejected_images::{RejectedImage, RejectedImages, Rejection};
use crate::monitor::settings::Settings;
use crate::monitor::windows::Windows;

/// The answers of both windows, and the latest rejected images.
///
/// ```
/// use dog_iqa::monitor::{Aggregator, Filter, Settings};
///
/// let mut aggregator = Aggregator::new(&Settings::default());
/// let event = br#"{"score": 4.5, "reference": {"id": "a", "uri": "s3://photos/a.jpg"},
///     "verdict": {"policy": "shop", "outcome": "reject", "reasons": []}}"#;
/// aggregator.add_event(event, 1_000, 2_000)?;
/// let state = aggregator.snapshot(&Filter::default(), 2_000);
/// assert!(state.to_json().contains("\"policy\":\"shop\""));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub struct Aggregator {
    pub(crate) settings: Settings,
    pub(crate) windows: Windows,
    pub(crate) policies: LabelSet,
    /// The values of each name of `monitor.metadata`.
    pub(crate) metadata: Vec<LabelSet>,
    pub(crate) reasons: LabelSet,
    pub(crate) codes: LabelSet,
    pub(crate) rejected: RejectedImages,
    /// The comparison with a shadow, if its events are read.
    pub(crate) shadow: Option<EngineComparison>,
    /// Answers that were older than both windows.
    pub(crate) too_old: u64,
    /// Time of the newest answer.
    pub(crate) newest_answer_ms: Option<i64>,
}

impl Aggregator {
    /// Creates an aggregator without answers. Uses the first four names of `settings.metadata`.
    pub fn new(settings: &Settings) -> Self {
        let names = settings.metadata.iter().take(METADATA_KEYS_MAX);
        Self {
            windows: Windows::new(settings.window, settings.reference),
            policies: LabelSet::new(LABELS_MAX),
            metadata: names.map(|_| LabelSet::new(LABELS_MAX)).collect(),
            reasons: LabelSet::new(LABELS_MAX),
            codes: LabelSet::new(DEAD_LETTER_CODES_MAX),
            rejected: RejectedImages::new(),
            shadow: None,
            too_old: 0,
            newest_answer_ms: None,
            settings: settings.clone(),
        }
    }

    /// Compares the events with those of a shadow.
    #[must_use]
    pub fn with_shadow(mut self) -> Self {
        self.shadow = Some(EngineComparison::default());
        self
    }

    /// Adds an event. `at_ms` is the time of its record, in milliseconds since 1970.
    ///
    /// # Errors
    /// Fails if the payload is not an event of this service. It is then counted as foreign.
    pub fn add_event(
        &mut self,
        payload: &[u8],
        at_ms: i64,
        now_ms: i64,
    ) -> Result<(), serde_json::Error> {
        let parsed = self.parse(payload, at_ms, now_ms)?;
        self.add_event_record(&parsed, at_ms, now_ms);
        Ok(())
    }

    pub(crate) fn add_event_record(&mut self, event: &EventRecord<'_>, at_ms: i64, now_ms: i64) {
        let at_ms = self.arrive(at_ms, now_ms);
        let oldest_ms = self.windows.oldest_ms();
        if at_ms < oldest_ms {
            self.too_old += 1;
            return;
        }
        let paired = self.classify(event, at_ms);
        let PairedEvent { outcome, series, .. } = paired;
        if let Some(shadow) = &mut self.shadow
            && at_ms >= self.windows.first_recent_ms()
        {
            shadow.add(ScoredBy::Live, event, paired);
        }
        let listed = event.reasons();
        let mut has_reason = [false; LABELS_MAX];
        for reason in listed.iter().flatten() {
            has_reason[usize::from(self.reasons.number(&reason.code, at_ms, oldest_ms))] = true;
        }
        if let Some(bucket) = self.windows.bucket_mut(at_ms) {
            let counts = bucket.events.counts_mut(series);
            counts.add_event(event.score, outcome);
            counts.with_reasons += u64::from(listed.is_some());
            for (count, has_reason) in counts.reasons.iter_mut().zip(has_reason) {
                *count += u64::from(has_reason);
            }
        }
        if let Some(verdict) = event.verdict.as_ref().filter(|_| outcome == REJECT) {
            let reasons = &listed.unwrap_or_default();
            self.rejected.add(event, &Rejection { verdict, reasons, series, at_ms });
        }
    }

    /// Adds an event of the shadow. `at_ms` is the time of its record, in milliseconds since 1970.
    /// Events before the window are left out, because the reference has none.
    ///
    /// # Errors
    /// Fails if the payload is not an event of this service. It is then counted as foreign.
    pub fn add_shadow_event(
        &mut self,
        payload: &[u8],
        at_ms: i64,
        now_ms: i64,
    ) -> Result<(), serde_json::Error> {
        let parsed = self.parse(payload, at_ms, now_ms)?;
        self.add_shadow_record(&parsed, at_ms, now_ms);
        Ok(())
    }

    pub(crate) fn add_shadow_record(&mut self, event: &EventRecord<'_>, at_ms: i64, now_ms: i64) {
        self.windows.slide(now_ms);
        let at_ms = at_ms.clamp(0, now_ms.max(0));
        if at_ms < self.windows.first_recent_ms() {
            return;
        }
        let paired = self.classify(event, at_ms);
        let Some(shadow) = &mut self.shadow else { return };
        shadow.add(ScoredBy::Shadow, event, paired);
        if let Some(bucket) = self.windows.bucket_mut(at_ms) {
            bucket.shadow_events.counts_mut(paired.series).add_event(paired.score, paired.outcome);
        }
    }

    /// Returns the score, the verdict and the series of an event.
    fn classify(&mut self, event: &EventRecord<'_>, at_ms: i64) -> PairedEvent {
        let oldest_ms = self.windows.oldest_ms();
        let number_of = |set: &mut LabelSet, name: &str| set.number(name, at_ms, oldest_ms);
        let verdict = event.verdict.as_ref();
        let policy = verdict.map_or("", |verdict| &verdict.policy);
        let mut series = SeriesKey {
            policy: number_of(&mut self.policies, policy),
            metadata: [0; METADATA_KEYS_MAX],
        };
        let values = event.reference.metadata(&self.settings.metadata);
        for ((number, set), value) in
            series.metadata.iter_mut().zip(&mut self.metadata).zip(&values)
        {
            *number = number_of(set, value.as_deref().unwrap_or_default());
        }
        let outcome = verdict.map_or(NO_VERDICT, |verdict| {
            OUTCOMES.iter().position(|name| *name == verdict.outcome).unwrap_or(NO_VERDICT)
        });
        PairedEvent { score: event.score, outcome, series, at_ms }
    }

    /// Adds a dead letter with a code.
    pub fn add_dead_letter(&mut self, code: &str, at_ms: i64, now_ms: i64) {
        let at_ms = self.arrive(at_ms, now_ms);
        let oldest_ms = self.windows.oldest_ms();
        match self.windows.bucket_mut(at_ms) {
            Some(bucket) => {
                let number = self.codes.number(code, at_ms, oldest_ms);
                bucket.dead_letters[usize::from(number)] += 1;
            }
            None => self.too_old += 1,
        }
    }

    /// Counts a record that is no answer of this service.
    pub fn add_foreign(&mut self, at_ms: i64, now_ms: i64) {
        let at_ms = self.arrive(at_ms, now_ms);
        match self.windows.bucket_mut(at_ms) {
            Some(bucket) => bucket.foreign += 1,
            None => self.too_old += 1,
        }
    }

    /// Parses an event. Counts a payload that is none as foreign.
    fn parse<'a>(
        &mut self,
        payload: &'a [u8],
        at_ms: i64,
        now_ms: i64,
    ) -> Result<EventRecord<'a>, serde_json::Error> {
        EventRecord::parse(payload).inspect_err(|_| self.add_foreign(at_ms, now_ms))
    }

    /// Slides the windows. Returns the time at which the answer counts.
    fn arrive(&mut self, at_ms: i64, now_ms: i64) -> i64 {
        self.windows.slide(now_ms);
        let at_ms = at_ms.clamp(0, now_ms.max(0));
        self.newest_answer_ms = self.newest_answer_ms.max(Some(at_ms));
        at_ms
    }

    /// Returns a rejected image by its number.
    pub(crate) fn rejected_image(&self, number: u64) -> Option<&RejectedImage> {
        self.rejected.find(number)
    }

    /// Returns a predicate of the series that a filter accepts.
    pub(crate) fn accepts(&self, filter: &Filter) -> impl Fn(&SeriesKey) -> bool + use<> {
        // A name without a number has no events.
        let policy = filter.policy.as_ref().map(|name| self.policies.find(name));
        let values: Vec<(usize, Option<u8>)> = filter
            .metadata
            .iter()
            .filter_map(|(index, value)| Some((*index, self.metadata.get(*index)?.find(value))))
            .collect();
        move |series| {
            policy.is_none_or(|policy| policy == Some(series.policy))
                && values.iter().all(|(index, value)| *value == Some(series.metadata[*index]))
        }
    }

    /// Sums the series of some buckets.
    pub(crate) fn sum<'a>(
        buckets: impl Iterator<Item = &'a SeriesCounts>,
        accepts: &impl Fn(&SeriesKey) -> bool,
    ) -> Counts {
        let mut sum = Counts::default();
        for bucket in buckets {
            for (_, counts) in bucket.iter().filter(|(key, _)| accepts(key)) {
                sum.add(counts);
            }
        }
        sum
    }
}
