//! Answers every entry of a record with an event, or with a dead letter that states the reason.
//! Every image gets exactly one of the two; events of stores that name no image get neither.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt, TryStreamExt, stream};
use tokio::sync::Notify;
use tracing::{Instrument, Span};

use crate::backoff::Backoff;
use crate::event::notification::{self, CreatedObject, Entry, RecordEntry, SkipReason};
use crate::event::{Headers, ImageReference, ReferenceError};
use crate::pipeline::{Journey, child_trace};
use crate::storage::{KeyVerdict, StoreFailure};
use crate::telemetry::spans::{self, RecordPosition};
use crate::telemetry::{LineLimit, Stage, metrics};

use crate::stream::error::StreamError;
use crate::stream::output::answer_writer::{AdmittedEntry, AdmittedRecord, AnswerWriter, Assessed};
use crate::stream::output::dependency::Dependency;
use crate::stream::output::latest_events::LatestEvents;
use crate::stream::output::outage::{Advice, FailedFetch, Outages};
use crate::stream::output::outbox::AnswerPart;
use crate::stream::output::reason::Reason;
use crate::stream::output::shadow::{AnsweredImage, ShadowTasks};
use crate::stream::record::delivery::Record;
use crate::stream::record::headers;
use crate::stream::settings::Settings;
use crate::stream::status::vitals::{Vitals, Waiting};

/// Delays before a reference of an unavailable store or server is assessed again.
const HOLD: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30), jitter: 0.5 };

static MISTAKEN_FIELDS: LineLimit = LineLimit::new(Duration::from_mins(1));

/// Answers the records of one worker.
pub(crate) struct Answers {
    settings: Arc<Settings>,
    journey: Journey,
    shadow: Option<Arc<ShadowTasks>>,
    writer: AnswerWriter,
    vitals: Arc<Vitals>,
    outages: Mutex<Outages>,
    latest_events: Mutex<LatestEvents>,
    /// Wakes the references that wait for a store or for the scoring server.
    recovered: Notify,
}

/// The result of one attempt.
enum AttemptOutcome {
    Event(Box<Assessed>),
    DeadLetter(Reason),
    /// The fetch failed through the store or the worker's access to it, or the rating through the
    /// scoring server.
    Unavailable {
        failure: StoreFailure,
        dependency: Dependency,
        reason: Reason,
    },
}

/// A reference that is held through an outage. Dropping it ends the hold.
struct HeldReference<'a> {
    answers: &'a Answers,
    dependency: Dependency,
    _waiting: Waiting<'a>,
}

impl Answers {
    pub(crate) fn new(
        journey: Journey,
        shadow: Option<Arc<ShadowTasks>>,
        writer: AnswerWriter,
        vitals: Arc<Vitals>,
    ) -> Self {
        let settings = Arc::clone(&writer.settings);
        Self {
            outages: Mutex::new(Outages::new(settings.outage_after)),
            latest_events: Mutex::default(),
            recovered: Notify::new(),
            settings,
            journey,
            shadow,
            writer,
            vitals,
        }
    }

    /// Answers all entries of the record. On success the answers are acknowledged, or committed
    /// together with its position.
    ///
    /// Cancel safe: if the future is dropped, the next reader of the record answers it.
    ///
    /// # Errors
    /// Any error stops the worker.
    pub(crate) async fn answer(&self, admitted: AdmittedRecord<'_>) -> Result<(), StreamError> {
        let parse = AssertUnwindSafe(|| self.parse(admitted.record));
        let reason = match catch_unwind(parse) {
            Ok(Ok(entries)) => return self.answer_entries(admitted, &entries).await,
            Ok(Err(error)) => Reason::of_reference(&error),
            Err(_) => Reason::panicked(),
        };
        let whole = AdmittedEntry { admitted, part: AnswerPart::ONLY, alone: None };
        self.writer.publish_dead_letter(whole, reason).await
    }

    fn parse(&self, record: &Record) -> Result<Vec<RecordEntry>, ReferenceError> {
        let payload = record.payload.as_deref().unwrap_or_default();
        notification::parse(&headers_of(record)?, payload, self.settings.input_format)
    }

    /// Answers all entries at once: the record was admitted with a share for each.
    async fn answer_entries(
        &self,
        admitted: AdmittedRecord<'_>,
        entries: &[RecordEntry],
    ) -> Result<(), StreamError> {
        for parsed in entries {
            self.latest_events().observe(&parsed.entry);
        }
        let of = entries.len();
        let answers = entries.iter().enumerate().map(|(index, parsed)| {
            let part = AnswerPart { index, of };
            let place = AdmittedEntry { admitted, part, alone: parsed.alone.as_deref() };
            Ok((place, &parsed.entry))
        });
        let answer = |(place, entry)| {
            let span = self.entry_span(admitted.record, entry);
            Box::pin(self.answer_entry(place, entry).instrument(span))
        };
        stream::iter(answers).try_for_each_concurrent(None, answer).await
    }

    /// Returns the span of the trace of an entry that names an image.
    fn entry_span(&self, record: &Record, entry: &Entry) -> Span {
        let reference = match entry {
            Entry::Reference(reference) => reference,
            Entry::Object(object) => &object.reference,
            Entry::Skipped { .. } | Entry::Invalid(_) => return Span::none(),
        };
        let Record { partition, offset, .. } = *record;
        let position = RecordPosition { topic: &self.settings.input_topic, partition, offset };
        let trace = reference.trace.as_ref();
        let parent = trace.map(|trace| (trace.header(), trace.state()));
        spans::reference_span(position, parent)
    }

    async fn answer_entry(
        &self,
        place: AdmittedEntry<'_>,
        entry: &Entry,
    ) -> Result<(), StreamError> {
        let reason = match entry {
            Entry::Reference(reference) => match self.assess(place, reference).await? {
                Ok(assessed) => return self.publish(place, reference, *assessed).await,
                Err(reason) => reason,
            },
            Entry::Object(object) => return self.answer_object(place, object).await,
            Entry::Skipped { reason, removed } => {
                let uri = removed.as_ref().map(|(uri, _)| uri.as_str());
                self.writer.skip(place, *reason, uri);
                return Ok(());
            }
            Entry::Invalid(error) => Reason::of_reference(error),
        };
        self.writer.publish_dead_letter(place, reason).await
    }

    async fn answer_object(
        &self,
        place: AdmittedEntry<'_>,
        object: &CreatedObject,
    ) -> Result<(), StreamError> {
        let stores = &self.journey.parts().stores;
        let uri = Some(object.reference.uri.as_str());
        let skipped = match stores.judge_key(&object.key, object.content_type.as_deref()) {
            KeyVerdict::Image => None,
            KeyVerdict::OtherKey => Some(SkipReason::Key),
            KeyVerdict::OtherContentType => Some(SkipReason::ContentType),
        };
        if let Some(reason) = skipped {
            self.writer.skip(place, reason, uri);
            return Ok(());
        }
        let admitted = object.account.as_deref().map_or(Ok(()), |name| stores.admit_account(name));
        if let Err(fault) = admitted {
            return self.writer.publish_dead_letter(place, Reason::of_uri(&fault)).await;
        }
        match self.assess(place, &object.reference).await? {
            Ok(assessed) => self.publish(place, &object.reference, *assessed).await,
            Err(reason) if reason.is_change_of_object() && self.is_superseded(object) => {
                self.writer.skip(place, SkipReason::Superseded, uri);
                Ok(())
            }
            Err(reason) if reason.is_other_content_type() => {
                self.writer.skip(place, SkipReason::ContentType, uri);
                Ok(())
            }
            Err(reason) => self.writer.publish_dead_letter(place, reason).await,
        }
    }

    async fn publish(
        &self,
        place: AdmittedEntry<'_>,
        reference: &ImageReference,
        assessed: Assessed,
    ) -> Result<(), StreamError> {
        if let Some(shadow) = &self.shadow {
            let (source, key) = (self.writer.source(place), place.event_key(&reference.id));
            shadow.offer(AnsweredImage { reference, source, key });
        }
        self.writer.publish_event(place, assessed).await
    }

    fn is_superseded(&self, object: &CreatedObject) -> bool {
        let sequencer = object.sequencer.as_ref();
        let uri = &object.reference.uri;
        sequencer.is_some_and(|sequencer| self.latest_events().is_superseded(uri, sequencer))
    }

    /// Runs an image through the pipeline until there is an event or the reason of a dead letter.
    /// Waits during an outage of the store or of the scoring server.
    async fn assess(
        &self,
        place: AdmittedEntry<'_>,
        reference: &ImageReference,
    ) -> Result<Result<Box<Assessed>, Reason>, StreamError> {
        for field in reference.mistaken_fields.iter().copied() {
            self.report_mistaken_field(place.admitted.record, field);
        }
        let started = Instant::now();
        let mut attempts = 0;
        let mut failures = 0;
        let mut held: Option<HeldReference<'_>> = None;
        let mut first_failed_at: Option<(Dependency, Instant)> = None;
        loop {
            // A panic fails this image only: the worker and its other images continue.
            let attempt = Box::pin(self.attempt(place, reference));
            let attempt = AssertUnwindSafe(attempt).catch_unwind().await;
            let Ok(outcome) = attempt else { return Ok(Err(Reason::panicked())) };
            let (failure, dependency, mut reason) = match outcome? {
                AttemptOutcome::Event(assessed) => return Ok(Ok(assessed)),
                AttemptOutcome::DeadLetter(reason) => return Ok(Err(reason)),
                AttemptOutcome::Unavailable { failure, dependency, reason } => {
                    (failure, dependency, reason)
                }
            };
            attempts += reason.attempts;
            reason.attempts = attempts;
            let now = Instant::now();
            // A reference whose store has recovered may fail at the scoring server next.
            let first = first_failed_at.take().filter(|(of, _)| *of == dependency);
            let (_, since) = first_failed_at.insert(first.unwrap_or((dependency.clone(), now)));
            let failed = FailedFetch {
                dependency: &dependency,
                failure,
                first_failed_at: *since,
                code: reason.code,
                message: &reason.message,
            };
            let advice = self.outages().failed(failed, now);
            let remaining = self.settings.outage_hold_max.saturating_sub(started.elapsed());
            if advice == Advice::GiveUp || remaining.is_zero() {
                return Ok(Err(reason));
            }
            let earlier = held.take().filter(|held| held.dependency == dependency);
            held =
                (advice == Advice::Hold).then(|| earlier.unwrap_or_else(|| self.hold(dependency)));
            failures += 1;
            let delay = HOLD.delay(failures).max(failure.retry_after.unwrap_or_default());
            // Both end the wait, and both lead to the next attempt.
            tokio::select! {
                biased;
                () = self.recovered.notified() => {}
                () = tokio::time::sleep(delay.min(remaining)) => {}
            }
        }
    }

    async fn attempt(
        &self,
        place: AdmittedEntry<'_>,
        reference: &ImageReference,
    ) -> Result<AttemptOutcome, StreamError> {
        let trace = child_trace(reference.trace.as_ref());
        let source = self.writer.source(place);
        match self.journey.assess(reference.clone(), Some(source)).await {
            Ok(event) => {
                self.answered(&Dependency::store_of(&reference.uri), true);
                // One of several scorers may rate without the server, as does the cache.
                if !event.cached && !event.engine.servers.is_empty() {
                    self.server_answered();
                }
                let reference_id = reference.id.clone();
                Ok(AttemptOutcome::Event(Box::new(Assessed { event, reference_id, trace })))
            }
            Err(failure) if failure.fatal => {
                Err(StreamError::EngineLost { code: failure.code, message: failure.message })
            }
            Err(failure) => {
                let is_sent = failure.attempts > 0;
                if let Some(store) = failure.store {
                    let server = failure.server.as_deref().map(Dependency::scoring_server);
                    if server.is_some() && is_sent {
                        // The image was read before the scoring server failed.
                        self.answered(&Dependency::store_of(&reference.uri), true);
                    }
                    return Ok(AttemptOutcome::Unavailable {
                        failure: store,
                        dependency: server.unwrap_or_else(|| Dependency::store_of(&reference.uri)),
                        reason: failure.into(),
                    });
                }
                // The object is at fault, or a later stage failed: the store itself works. A
                // reference that is refused without a request says nothing about its store.
                if failure.stage != Stage::Reference && is_sent {
                    let store = Dependency::store_of(&reference.uri);
                    self.answered(&store, failure.object_sent);
                }
                if failure.is_answer_of_server() {
                    self.server_answered();
                }
                Ok(AttemptOutcome::DeadLetter(failure.into()))
            }
        }
    }

    /// Holds a reference until its store or the scoring server is available again.
    fn hold(&self, dependency: Dependency) -> HeldReference<'_> {
        self.outages().hold(&dependency);
        let waiting = match &dependency {
            Dependency::ScoringServer(_) => self.vitals.held_for_server(),
            Dependency::Store(_) => self.vitals.held_for_store(),
        };
        HeldReference { answers: self, dependency, _waiting: waiting }
    }

    fn report_mistaken_field(&self, record: &Record, field: &'static str) {
        metrics::field_ignored(field);
        if let Some(repeated) = MISTAKEN_FIELDS.admit(field, Instant::now()) {
            let Record { partition, offset, .. } = record;
            let topic = &self.settings.input_topic;
            tracing::warn!(
                field,
                repeated,
                topic,
                partition,
                offset,
                "a reference has a field that is ignored and looks like a mistake"
            );
        }
    }

    /// Records that a store or the scoring server has answered.
    fn answered(&self, dependency: &Dependency, is_read: bool) {
        if self.outages().answered(dependency, is_read, Instant::now()) {
            match dependency {
                Dependency::ScoringServer(_) => tracing::info!(
                    "the scoring server is available again; references are rated again"
                ),
                Dependency::Store(_) => {
                    tracing::info!("a store is available again; its references are fetched again");
                }
            }
            self.recovered.notify_waiters();
        }
    }

    /// Records that the scoring server has rated, or has refused an image.
    fn server_answered(&self) {
        if let Some(server) = self.journey.engine().server() {
            self.answered(&Dependency::scoring_server(server.server()), true);
        }
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latest_events(&self) -> MutexGuard<'_, LatestEvents> {
        self.latest_events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldReference<'_> {
    fn drop(&mut self) {
        self.answers.outages().release(&self.dependency);
    }
}

/// Reads the headers of a record.
fn headers_of(record: &Record) -> Result<Headers, ReferenceError> {
    let named = headers::read(record.headers.as_ref()).map_err(|index| {
        ReferenceError::HeaderName { name: format!("header {} of the record", index + 1) }
    })?;
    Ok(Headers::new(named))
}
