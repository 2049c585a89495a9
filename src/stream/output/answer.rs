//! Answers a record with an event, or with a dead letter that states the reason. Every record gets
//! exactly one of the two.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::FutureExt;
use rdkafka::message::OwnedHeaders;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::event::dead_letter::{GENERATED_KEY_HEADER, LEFT_OUT_HEADER};
use crate::event::reference::{self, ReferenceError};
use crate::event::{
    DeadLetterReason, Headers, ImageReference, QualityEvent, Source, TraceContext,
    cloudevent_headers,
};
use crate::pipeline::{Journey, JourneyError};
use crate::redact;
use crate::storage::StoreFailure;
use crate::telemetry::{LineLimit, Stage, metrics};

use crate::stream::error::StreamError;
use crate::stream::offsets::tracker::RecordSlot;
use crate::stream::output::outage::{Advice, FailedFetch, Outages, is_server, name_of_server};
use crate::stream::output::outbox::Outbox;
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::output::publisher::Publisher;
use crate::stream::record::delivery::Record;
use crate::stream::record::headers;
use crate::stream::settings::Settings;
use crate::stream::status::counts::Counts;
use crate::stream::status::vitals::{Vitals, Waiting};

/// Delays before a reference of an unavailable store or server is assessed again.
const HOLD: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30), jitter: 0.5 };

static MISTAKEN_FIELDS: LineLimit = LineLimit::new(Duration::from_mins(1));

/// Answers the records of one worker.
pub(crate) struct Answers {
    settings: Arc<Settings>,
    journey: Journey,
    output: AnswerOutput,
    counts: Arc<Counts>,
    vitals: Arc<Vitals>,
    outages: Mutex<Outages>,
    /// Wakes the references that wait for a store or for the scoring server.
    recovered: Notify,
}

/// The output path of answers, by delivery guarantee.
pub(crate) enum AnswerOutput {
    /// Each answer is sent alone, until the brokers acknowledge it.
    Direct(Publisher),
    /// The polling thread commits answers together with their positions.
    Transactions(Arc<Outbox>),
}

/// An admitted record.
#[derive(Clone, Copy)]
pub(crate) struct AdmittedRecord<'a> {
    pub(crate) record: &'a Record,
    pub(crate) slot: RecordSlot,
    pub(crate) received_at: Instant,
}

/// An event, and the values of its reference that only its headers and key contain.
struct Assessed {
    event: QualityEvent,
    reference_id: String,
    trace: TraceContext,
}

/// The reason why a record becomes a dead letter.
struct Reason {
    code: &'static str,
    stage: Stage,
    attempts: u32,
    message: String,
}

/// The result of one attempt.
enum AttemptOutcome {
    Event(Box<Assessed>),
    DeadLetter(Reason),
    /// The fetch failed through the store or the worker's access to it, or the rating through the
    /// scoring server.
    Unavailable {
        failure: StoreFailure,
        /// The reference's URI, or the name of the scoring server.
        party: String,
        reason: Reason,
    },
}

/// A reference that is held through an outage. Dropping it ends the hold.
struct HeldReference<'a> {
    answers: &'a Answers,
    /// The reference's URI, or the name of the scoring server.
    party: String,
    _waiting: Waiting<'a>,
}

impl Answers {
    pub(crate) fn new(
        settings: Arc<Settings>,
        journey: Journey,
        output: AnswerOutput,
        counts: Arc<Counts>,
        vitals: Arc<Vitals>,
    ) -> Self {
        let outages = Mutex::new(Outages::new(settings.outage_after));
        let recovered = Notify::new();
        Self { settings, journey, output, counts, vitals, outages, recovered }
    }

    /// Answers the record. On success the answer is acknowledged, or committed with its position.
    ///
    /// Cancel safe: if the future is dropped, the next reader of the record answers it.
    ///
    /// # Errors
    /// Any error stops the worker.
    pub(crate) async fn answer(&self, admitted: AdmittedRecord<'_>) -> Result<(), StreamError> {
        match self.assess(admitted.record).await? {
            Ok(assessed) => self.publish_event(admitted, *assessed).await,
            Err(reason) => self.publish_dead_letter(admitted, reason).await,
        }
    }

    async fn write(
        &self,
        admitted: AdmittedRecord<'_>,
        outgoing: Outgoing<'_>,
    ) -> Result<(), PublishError> {
        match &self.output {
            AnswerOutput::Direct(publisher) => publisher.publish(outgoing).await,
            AnswerOutput::Transactions(outbox) => {
                outbox.publish(admitted.slot, admitted.record.offset, outgoing).await
            }
        }
    }

    /// Runs the record through the pipeline until there is an event or the reason of a dead letter.
    /// Waits during an outage of the store or of the scoring server.
    async fn assess(&self, record: &Record) -> Result<Result<Box<Assessed>, Reason>, StreamError> {
        let reference = match catch_unwind(AssertUnwindSafe(|| read(record))) {
            Ok(Ok(reference)) => reference,
            Ok(Err(error)) => return Ok(Err(Reason::of_reference(&error))),
            Err(_) => return Ok(Err(Reason::panicked())),
        };
        for field in reference.mistaken_fields.iter().copied() {
            self.report_mistaken_field(record, field);
        }
        let started = Instant::now();
        let mut attempts = 0;
        let mut failures = 0;
        let mut held: Option<HeldReference<'_>> = None;
        let mut first_failed_at: Option<(String, Instant)> = None;
        loop {
            // A panic fails this image only: the worker and its other images continue.
            let attempt = Box::pin(self.attempt(record, &reference));
            let attempt = AssertUnwindSafe(attempt).catch_unwind().await;
            let Ok(outcome) = attempt else { return Ok(Err(Reason::panicked())) };
            let (failure, party, mut reason) = match outcome? {
                AttemptOutcome::Event(assessed) => return Ok(Ok(assessed)),
                AttemptOutcome::DeadLetter(reason) => return Ok(Err(reason)),
                AttemptOutcome::Unavailable { failure, party, reason } => (failure, party, reason),
            };
            attempts += reason.attempts;
            reason.attempts = attempts;
            let now = Instant::now();
            // A reference whose store has recovered may fail at the scoring server next.
            let first = first_failed_at.take().filter(|(of, _)| *of == party);
            let (_, since) = first_failed_at.insert(first.unwrap_or((party.clone(), now)));
            let failed = FailedFetch {
                uri: &party,
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
            let earlier = held.take().filter(|held| held.party == party);
            held = (advice == Advice::Hold).then(|| earlier.unwrap_or_else(|| self.hold(party)));
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
        record: &Record,
        reference: &ImageReference,
    ) -> Result<AttemptOutcome, StreamError> {
        let trace = child_trace(reference.trace.as_ref());
        let source = self.source(record);
        match self.journey.assess(reference.clone(), Some(source)).await {
            Ok(event) => {
                self.answered(&reference.uri, true);
                self.server_answered();
                let reference_id = reference.id.clone();
                Ok(AttemptOutcome::Event(Box::new(Assessed { event, reference_id, trace })))
            }
            Err(failure) if failure.fatal => {
                Err(StreamError::EngineLost { code: failure.code, message: failure.message })
            }
            Err(failure) => {
                let is_sent = failure.attempts > 0;
                if let Some(store) = failure.store {
                    let server = failure.server.as_deref().map(name_of_server);
                    if server.is_some() && is_sent {
                        // The image was read before the scoring server failed.
                        self.answered(&reference.uri, true);
                    }
                    return Ok(AttemptOutcome::Unavailable {
                        failure: store,
                        party: server.unwrap_or_else(|| reference.uri.clone()),
                        reason: failure.into(),
                    });
                }
                // The object is at fault, or a later stage failed: the store itself works. A
                // reference that is refused without a request says nothing about its store.
                if failure.stage != Stage::Reference && is_sent {
                    self.answered(&reference.uri, failure.stage != Stage::Fetch);
                }
                if failure.stage == Stage::Score {
                    self.server_answered();
                }
                Ok(AttemptOutcome::DeadLetter(failure.into()))
            }
        }
    }

    /// Holds a reference until its store or the scoring server is available again.
    fn hold(&self, party: String) -> HeldReference<'_> {
        self.outages().hold(&party);
        let waiting = if is_server(&party) {
            self.vitals.held_for_server()
        } else {
            self.vitals.held_for_store()
        };
        HeldReference { answers: self, party, _waiting: waiting }
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
    fn answered(&self, party: &str, is_read: bool) {
        if self.outages().answered(party, is_read, Instant::now()) {
            if is_server(party) {
                tracing::info!("the scoring server is available again; references are rated again");
            } else {
                tracing::info!("a store is available again; its references are fetched again");
            }
            self.recovered.notify_waiters();
        }
    }

    /// Records that the scoring server has rated, or has refused an image.
    fn server_answered(&self) {
        if let Some(server) = self.journey.engine().server() {
            self.answered(&name_of_server(server.server()), true);
        }
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, record: &Record) -> Source {
        Source {
            topic: self.settings.input_topic.clone(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms,
        }
    }

    async fn publish_event(
        &self,
        admitted: AdmittedRecord<'_>,
        assessed: Assessed,
    ) -> Result<(), StreamError> {
        let Assessed { mut event, reference_id, trace } = assessed;
        let mut result = self.send_event(admitted, &event, &reference_id, &trace).await;
        let has_masks = event.objects.iter().any(|object| object.mask.is_some());
        if matches!(result, Err(PublishError::TooLarge { .. })) && has_masks {
            event.remove_masks();
            result = self.send_event(admitted, &event, &reference_id, &trace).await;
        }
        match result {
            Ok(()) => {
                self.counts.events.increment();
                metrics::event_published(event.score, admitted.received_at.elapsed());
                Ok(())
            }
            Err(PublishError::Permanent(error)) => Err(error),
            Err(error @ PublishError::TooLarge { .. }) => {
                let code = "publish.too_large";
                metrics::stage_failed(Stage::Publish, code);
                let message = error.to_string();
                let reason = Reason { code, stage: Stage::Publish, attempts: 1, message };
                self.publish_dead_letter(admitted, reason).await
            }
        }
    }

    async fn send_event(
        &self,
        admitted: AdmittedRecord<'_>,
        event: &QualityEvent,
        reference_id: &str,
        trace: &TraceContext,
    ) -> Result<(), PublishError> {
        let payload = serde_json::to_vec(event).expect("an event is plain data");
        let names = cloudevent_headers::headers_for(event, Some(trace));
        let outgoing = Outgoing {
            topic: &self.settings.output_topic,
            key: Some(admitted.record.key.as_deref().unwrap_or(reference_id.as_bytes())),
            payload: &payload,
            headers: headers::append(OwnedHeaders::new(), &names),
        };
        self.write(admitted, outgoing).await
    }

    /// Writes the original record, with the reason in its headers, and its position as key if it
    /// has none. If that is too large for the topic, leaves out the value, then the headers too.
    /// The reason contains the position of the original, and a poison record must not block its
    /// partition.
    async fn publish_dead_letter(
        &self,
        admitted: AdmittedRecord<'_>,
        reason: Reason,
    ) -> Result<(), StreamError> {
        let AdmittedRecord { record, received_at, .. } = admitted;
        let (code, message) = (reason.code, reason.message.clone());
        let mut names = self.reason_headers(record, reason);
        let position =
            format!("{}-{}-{}", self.settings.input_topic, record.partition, record.offset);
        if record.key.is_none() {
            names.push((GENERATED_KEY_HEADER.to_owned(), "true".to_owned()));
        }
        let original = record.headers.as_ref();
        let payload = record.payload.as_deref().unwrap_or_default();
        let forms = [
            (original, payload, None),
            (original, &[][..], Some("value")),
            (None, &[][..], Some("value, headers")),
        ];
        for (original, payload, left_out) in forms {
            if let Some(left_out) = left_out {
                tracing::error!(
                    partition = record.partition,
                    offset = record.offset,
                    "the dead letter is too large for its topic; a part of it is left out"
                );
                names.retain(|(name, _)| name != LEFT_OUT_HEADER);
                names.push((LEFT_OUT_HEADER.to_owned(), left_out.to_owned()));
            }
            let outgoing = Outgoing {
                topic: &self.settings.dead_letter_topic,
                key: Some(record.key.as_deref().unwrap_or(position.as_bytes())),
                payload,
                headers: headers::with_reason(original, &names),
            };
            match self.write(admitted, outgoing).await {
                Ok(()) => {
                    self.counts.dead_letters.increment();
                    self.counts.dead_letter_log.record(code, || {
                        let Record { partition, offset, .. } = record;
                        let topic = &self.settings.input_topic;
                        let message = redact::excerpt(&redact::uris_in(&message), 300);
                        format!("{topic} [{partition}] at {offset}: {message}")
                    });
                    metrics::dead_letter_published(code, received_at.elapsed());
                    return Ok(());
                }
                Err(PublishError::Permanent(error)) => return Err(error),
                Err(PublishError::TooLarge { .. }) => {}
            }
        }
        let topic = self.settings.dead_letter_topic.clone();
        Err(StreamError::Configuration(format!(
            "topic {topic} does not accept even the reason of a dead letter; raise its \
             max.message.bytes"
        )))
    }

    fn reason_headers(&self, record: &Record, reason: Reason) -> Vec<(String, String)> {
        let reason = DeadLetterReason {
            code: reason.code.to_owned(),
            message: reason.message,
            stage: reason.stage.name().to_owned(),
            attempts: reason.attempts.max(1),
            time: Utc::now(),
            group: self.settings.group_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            original: self.source(record),
        };
        reason.headers()
    }
}

impl Drop for HeldReference<'_> {
    fn drop(&mut self) {
        self.answers.outages().release(&self.party);
    }
}

impl Reason {
    fn of_reference(error: &ReferenceError) -> Self {
        metrics::stage_failed(Stage::Reference, error.code());
        Self {
            code: error.code(),
            stage: Stage::Reference,
            attempts: 1,
            message: error.to_string(),
        }
    }

    fn panicked() -> Self {
        let code = "pipeline.panicked";
        metrics::stage_failed(Stage::Reference, code);
        let message = "the pipeline panicked on this image; this is a bug, please report it with \
                       the image";
        Self { code, stage: Stage::Reference, attempts: 1, message: message.to_owned() }
    }
}

impl From<JourneyError> for Reason {
    fn from(failure: JourneyError) -> Self {
        let JourneyError { code, stage, attempts, message, .. } = failure;
        Self { code, stage, attempts, message }
    }
}

fn read(record: &Record) -> Result<ImageReference, ReferenceError> {
    let named = headers::read(record.headers.as_ref()).map_err(|index| {
        ReferenceError::HeaderName { name: format!("header {} of the record", index + 1) }
    })?;
    reference::parse(&Headers::new(named), record.payload.as_deref().unwrap_or_default())
}

/// Returns a child span of the reference's trace, or a new trace if it has none.
fn child_trace(trace: Option<&TraceContext>) -> TraceContext {
    let span_id = fastrand::u64(..).to_be_bytes();
    trace.map_or_else(
        || TraceContext::root(fastrand::u128(..).to_be_bytes(), span_id),
        |trace| trace.child(span_id),
    )
}
