//! From a record to its answer: an event, or a dead letter with the reason. Every record gets one.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::FutureExt;
use rdkafka::message::OwnedHeaders;
use tokio::sync::Notify;

use crate::event::dead_letter::LEFT_OUT_HEADER;
use crate::event::reference::{self, ReferenceError};
use crate::event::{
    DeadLetterReason, Headers, ImageReference, QualityEvent, Source, TraceContext, cloudevents,
};
use crate::pipeline::{Failure, Journey};
use crate::telemetry::{Stage, metrics};

use crate::stream::error::StreamError;
use crate::stream::offsets::tracker::RecordSlot;
use crate::stream::output::outage::{Advice, Outages};
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::output::publisher::Publisher;
use crate::stream::record::delivery::Record;
use crate::stream::record::headers;
use crate::stream::shared::{Counts, Shared};

/// First and last wait before a reference of a store that is out is fetched again.
const HOLD_WAIT: Duration = Duration::from_secs(1);
const HOLD_WAIT_MAX: Duration = Duration::from_secs(30);

/// What answers records.
pub(crate) struct Answers {
    pub(crate) shared: Arc<Shared>,
    journey: Journey,
    road: Road,
    outages: Mutex<Outages>,
    /// Wakes the references that wait for a store.
    recovered: Notify,
}

/// How answers leave.
pub(crate) enum Road {
    /// Each by itself, again until the brokers have it.
    Direct(Publisher),
    /// Together with the positions behind them, by the polling thread.
    Transactions,
}

/// A record, its place in line, and when it was taken in.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) record: &'a Record,
    pub(crate) slot: RecordSlot,
    pub(crate) taken_in: Instant,
}

/// An event, with what its record adds to it.
struct Assessed {
    event: QualityEvent,
    reference_id: String,
    trace: TraceContext,
}

/// Why a record becomes a dead letter.
struct Reason {
    code: &'static str,
    stage: Stage,
    attempts: u32,
    message: String,
}

/// What an attempt ended with.
enum Outcome {
    Event(Box<Assessed>),
    DeadLetter(Reason),
    /// The same reference may pass later: `uri` names the store.
    Passing {
        uri: String,
        reason: Reason,
    },
}

impl Answers {
    pub(crate) fn new(shared: Arc<Shared>, journey: Journey, road: Road) -> Self {
        let outages = Mutex::new(Outages::new(shared.settings.outage_after));
        Self { shared, journey, road, outages, recovered: Notify::new() }
    }

    /// Answers the record; when this returns well, the answer is acknowledged, or committed with its
    /// position.
    ///
    /// Cancel safe: an abandoned record is answered by whoever reads it next.
    ///
    /// # Errors
    /// What ends the worker.
    pub(crate) async fn answer(&self, asked: Asked<'_>) -> Result<(), StreamError> {
        match self.assess(asked.record).await? {
            Ok(assessed) => self.publish_event(asked, *assessed).await,
            Err(reason) => self.publish_dead_letter(asked, reason).await,
        }
    }

    async fn write(&self, asked: Asked<'_>, outgoing: Outgoing<'_>) -> Result<(), PublishError> {
        match &self.road {
            Road::Direct(publisher) => publisher.publish(outgoing).await,
            Road::Transactions => {
                let slot = (asked.slot, asked.record.offset);
                self.shared.outbox.publish(slot, outgoing).await
            }
        }
    }

    /// Takes the record the whole way to its event or its reason; through a store's outage, too.
    async fn assess(&self, record: &Record) -> Result<Result<Box<Assessed>, Reason>, StreamError> {
        let first_try = Instant::now();
        let mut attempts = 0;
        let mut wait = HOLD_WAIT;
        let mut hold = None;
        loop {
            // A panic of one image is that image's fault until the contrary is shown.
            let attempt = AssertUnwindSafe(Box::pin(self.attempt(record))).catch_unwind();
            let outcome = attempt.await.unwrap_or_else(|_| Ok(Outcome::panicked()))?;
            let (uri, mut reason) = match outcome {
                Outcome::Event(assessed) => return Ok(Ok(assessed)),
                Outcome::DeadLetter(reason) => return Ok(Err(reason)),
                Outcome::Passing { uri, reason } => (uri, reason),
            };
            attempts += reason.attempts;
            reason.attempts = attempts;
            let is_patient = first_try.elapsed() < self.shared.settings.outage_hold_max;
            if self.outages().failed(&uri, Instant::now()) == Advice::GiveUp || !is_patient {
                return Ok(Err(reason));
            }
            hold.get_or_insert_with(|| Hold::begin(&self.shared));
            let pause = wait.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
            // Either ends the wait; whichever it was, the next step is the same.
            tokio::select! {
                biased;
                () = self.recovered.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            wait = (wait * 2).min(HOLD_WAIT_MAX);
        }
    }

    async fn attempt(&self, record: &Record) -> Result<Outcome, StreamError> {
        let reference = match read(record) {
            Ok(reference) => reference,
            Err(error) => {
                metrics::stage_failed(Stage::Reference, error.code());
                return Ok(Outcome::DeadLetter(Reason {
                    code: error.code(),
                    stage: Stage::Reference,
                    attempts: 1,
                    message: error.to_string(),
                }));
            }
        };
        let (uri, reference_id) = (reference.uri.clone(), reference.id.clone());
        let trace = span_of_ours(reference.trace.as_ref());
        let source = self.source(record);
        let result = self.journey.assess(reference, Some(source)).await;
        match result {
            Ok(event) => {
                self.store_answered(&uri);
                Ok(Outcome::Event(Box::new(Assessed { event, reference_id, trace })))
            }
            Err(failure) if failure.fatal => {
                Err(StreamError::EngineLost { code: failure.code, message: failure.message })
            }
            Err(failure) if failure.transient && failure.stage == Stage::Fetch => {
                Ok(Outcome::Passing { uri, reason: failure.into() })
            }
            Err(failure) => {
                // A plain no, or a failure after the fetch: the store itself works.
                if failure.stage != Stage::Reference {
                    self.store_answered(&uri);
                }
                Ok(Outcome::DeadLetter(failure.into()))
            }
        }
    }

    fn store_answered(&self, uri: &str) {
        if self.outages().answered(uri, Instant::now()) {
            tracing::info!("a store is back; its references are fetched again");
            self.recovered.notify_waiters();
        }
    }

    fn outages(&self) -> std::sync::MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, record: &Record) -> Source {
        Source {
            topic: self.shared.settings.input_topic.clone(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms,
        }
    }

    async fn publish_event(&self, asked: Asked<'_>, assessed: Assessed) -> Result<(), StreamError> {
        let Assessed { mut event, reference_id, trace } = assessed;
        let mut result = self.send_event(asked, &event, &reference_id, &trace).await;
        let has_masks = event.objects.iter().any(|object| object.mask.is_some());
        if matches!(result, Err(PublishError::TooLarge { .. })) && has_masks {
            event.remove_masks();
            result = self.send_event(asked, &event, &reference_id, &trace).await;
        }
        match result {
            Ok(()) => {
                Counts::add(&self.shared.counts.events);
                metrics::event_published(event.score, asked.taken_in.elapsed());
                Ok(())
            }
            Err(PublishError::Permanent(error)) => Err(error),
            Err(error @ PublishError::TooLarge { .. }) => {
                let code = "publish.too_large";
                metrics::stage_failed(Stage::Publish, code);
                let message = error.to_string();
                let reason = Reason { code, stage: Stage::Publish, attempts: 1, message };
                self.publish_dead_letter(asked, reason).await
            }
        }
    }

    async fn send_event(
        &self,
        asked: Asked<'_>,
        event: &QualityEvent,
        reference_id: &str,
        trace: &TraceContext,
    ) -> Result<(), PublishError> {
        let payload = serde_json::to_vec(event).expect("an event is plain data");
        let names = cloudevents::headers_for(event, Some(trace));
        let outgoing = Outgoing {
            topic: &self.shared.settings.output_topic,
            key: Some(asked.record.key.as_deref().unwrap_or(reference_id.as_bytes())),
            payload: &payload,
            headers: headers::append(OwnedHeaders::new(), &names),
        };
        self.write(asked, outgoing).await
    }

    /// Writes the record as it came, with the reason in its headers. Where that is larger than the
    /// topic takes, first the value and then the headers stay behind: the reason says where the
    /// record lies, and a poison record must not stop its partition.
    async fn publish_dead_letter(
        &self,
        asked: Asked<'_>,
        reason: Reason,
    ) -> Result<(), StreamError> {
        let Asked { record, taken_in, .. } = asked;
        let code = reason.code;
        let mut names = self.reason_headers(record, reason);
        let original = record.headers.as_ref();
        let payload = record.payload.as_deref().unwrap_or_default();
        let stages = [(original, payload), (original, &[][..]), (None, &[][..])];
        for (stage, (original, payload)) in stages.into_iter().enumerate() {
            if stage > 0 {
                tracing::error!(
                    partition = record.partition,
                    offset = record.offset,
                    "the dead letter is too large for its topic, a part of it is left out"
                );
                names.retain(|(name, _)| name != LEFT_OUT_HEADER);
                let left_out = if stage == 1 { "value" } else { "value, headers" };
                names.push((LEFT_OUT_HEADER.to_owned(), left_out.to_owned()));
            }
            let outgoing = Outgoing {
                topic: &self.shared.settings.dead_letter_topic,
                key: record.key.as_deref(),
                payload,
                headers: headers::with_reason(original, &names),
            };
            match self.write(asked, outgoing).await {
                Ok(()) => {
                    Counts::add(&self.shared.counts.dead_letters);
                    metrics::dead_letter_published(code, taken_in.elapsed());
                    return Ok(());
                }
                Err(PublishError::Permanent(error)) => return Err(error),
                Err(PublishError::TooLarge { .. }) => {}
            }
        }
        let topic = self.shared.settings.dead_letter_topic.clone();
        Err(StreamError::Configuration(format!(
            "topic {topic} takes not even the reason of a dead letter; raise its max.message.bytes"
        )))
    }

    fn reason_headers(&self, record: &Record, reason: Reason) -> Vec<(String, String)> {
        let reason = DeadLetterReason {
            code: reason.code.to_owned(),
            message: reason.message,
            stage: reason.stage.name().to_owned(),
            attempts: reason.attempts.max(1),
            time: Utc::now(),
            group: self.shared.settings.group_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            original: self.source(record),
        };
        reason.headers()
    }
}

/// A reference that is kept through an outage: the worker is not ready meanwhile.
struct Hold<'a> {
    shared: &'a Shared,
}

impl<'a> Hold<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.vitals().held += 1;
        Self { shared }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.shared.vitals().held -= 1;
    }
}

impl Outcome {
    fn panicked() -> Self {
        let code = "pipeline.panicked";
        metrics::stage_failed(Stage::Reference, code);
        let message = "the journey of this image panicked; this is a bug, please report it with \
                       the image";
        Self::DeadLetter(Reason {
            code,
            stage: Stage::Reference,
            attempts: 1,
            message: message.to_owned(),
        })
    }
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        let Failure { code, stage, attempts, message, .. } = failure;
        Self { code, stage, attempts, message }
    }
}

fn read(record: &Record) -> Result<ImageReference, ReferenceError> {
    let named = headers::read(record.headers.as_ref()).map_err(|index| {
        ReferenceError::HeaderName { name: format!("header {} of the record", index + 1) }
    })?;
    reference::parse(&Headers::new(named), record.payload.as_deref().unwrap_or_default())
}

/// The reference's trace with a span of ours, or a new one.
fn span_of_ours(trace: Option<&TraceContext>) -> TraceContext {
    let span_id = fastrand::u64(..).to_be_bytes();
    trace.map_or_else(
        || TraceContext::root(fastrand::u128(..).to_be_bytes(), span_id),
        |trace| trace.child(span_id),
    )
}
