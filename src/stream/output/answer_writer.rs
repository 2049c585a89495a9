//! Writes the answer of an entry of a record: an event, a dead letter, or nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use rdkafka::message::OwnedHeaders;
use tracing::{Instrument, Span};

use crate::event::dead_letter::{GENERATED_KEY_HEADER, LEFT_OUT_HEADER};
use crate::event::notification::SkipReason;
use crate::event::{DeadLetterReason, QualityEvent, Source, TraceContext, cloudevent_headers};
use crate::redact;
use crate::telemetry::{LineLimit, Stage, metrics, spans};

use crate::stream::error::StreamError;
use crate::stream::offsets::tracker::RecordSlot;
use crate::stream::output::outbox::{AnswerPart, Outbox};
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::output::publisher::Publisher;
use crate::stream::output::reason::Reason;
use crate::stream::record::delivery::Record;
use crate::stream::record::headers;
use crate::stream::settings::Settings;
use crate::stream::status::counts::Counts;

static LEFT_OUT: LineLimit = LineLimit::new(Duration::from_mins(1));

/// Writes the answers of one worker.
pub(crate) struct AnswerWriter {
    pub(crate) settings: Arc<Settings>,
    pub(crate) output: AnswerOutput,
    pub(crate) counts: Arc<Counts>,
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

/// An entry of an admitted record, and its place among the entries.
#[derive(Clone, Copy)]
pub(crate) struct AdmittedEntry<'a> {
    pub(crate) admitted: AdmittedRecord<'a>,
    pub(crate) part: AnswerPart,
    /// The value of a record with this entry only; `None` if the record has no other.
    pub(crate) alone: Option<&'a [u8]>,
}

/// An event, and the values of its reference that only its headers and key contain.
pub(crate) struct Assessed {
    pub(crate) event: QualityEvent,
    pub(crate) reference_id: String,
    pub(crate) trace: TraceContext,
}

impl<'a> AdmittedEntry<'a> {
    /// Returns the key of the entry's event. That of a record with several objects does not
    /// distinguish them.
    pub(crate) fn event_key(self, reference_id: &'a str) -> &'a [u8] {
        let key = self.admitted.record.key.as_deref().filter(|_| self.alone.is_none());
        key.unwrap_or(reference_id.as_bytes())
    }

    /// Returns the position of the entry, or `None` if the record has no other.
    fn index(self) -> Option<u32> {
        self.alone.and_then(|_| u32::try_from(self.part.index).ok())
    }
}

impl AnswerWriter {
    /// Returns the position of an entry, as a label for its event.
    pub(crate) fn source(&self, place: AdmittedEntry<'_>) -> Source {
        let record = place.admitted.record;
        Source {
            topic: self.settings.input_topic.clone(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms,
            index: place.index(),
        }
    }

    /// Counts an entry that needs no answer. `uri` is that of its object, if it is known.
    pub(crate) fn skip(&self, place: AdmittedEntry<'_>, reason: SkipReason, uri: Option<&str>) {
        let AdmittedRecord { record, slot, .. } = place.admitted;
        self.counts.skipped.increment();
        let name = reason.name();
        metrics::notification_skipped(name);
        let Record { partition, offset, .. } = *record;
        let uri = uri.map(redact::uri);
        tracing::debug!(reason = name, uri, partition, offset, "an event of a store is skipped");
        // A wrong pattern would otherwise skip every upload in silence.
        if matches!(reason, SkipReason::Key | SkipReason::ContentType)
            && let Some(repeated) = LEFT_OUT.admit(name, Instant::now())
        {
            tracing::info!(
                reason = name,
                repeated,
                uri,
                "storage.keys leaves out notified objects"
            );
        }
        if let AnswerOutput::Transactions(outbox) = &self.output {
            outbox.skip_part(slot, offset, place.part);
        }
    }

    async fn write(
        &self,
        place: AdmittedEntry<'_>,
        outgoing: Outgoing<'_>,
    ) -> Result<(), PublishError> {
        let span = spans::stage_span(Stage::Publish);
        let write = async {
            match &self.output {
                AnswerOutput::Direct(publisher) => publisher.publish(outgoing).await,
                AnswerOutput::Transactions(outbox) => {
                    let AdmittedRecord { record, slot, .. } = place.admitted;
                    outbox.publish(slot, record.offset, place.part, outgoing).await
                }
            }
        };
        write.instrument(span).await
    }

    /// Writes an event. On success it is acknowledged, or committed with its position.
    ///
    /// # Errors
    /// Any error stops the worker.
    pub(crate) async fn publish_event(
        &self,
        place: AdmittedEntry<'_>,
        assessed: Assessed,
    ) -> Result<(), StreamError> {
        let Assessed { mut event, reference_id, trace } = assessed;
        let mut result = self.send_event(place, &event, &reference_id, &trace).await;
        let has_masks = event.objects.iter().any(|object| object.mask.is_some());
        if matches!(result, Err(PublishError::TooLarge { .. })) && has_masks {
            event.remove_masks();
            result = self.send_event(place, &event, &reference_id, &trace).await;
        }
        match result {
            Ok(()) => {
                self.counts.events.increment();
                metrics::event_published(event.score, place.admitted.received_at.elapsed());
                Ok(())
            }
            Err(PublishError::Permanent(error)) => Err(error),
            Err(error @ PublishError::TooLarge { .. }) => {
                self.publish_dead_letter(place, Reason::too_large(error.to_string())).await
            }
        }
    }

    async fn send_event(
        &self,
        place: AdmittedEntry<'_>,
        event: &QualityEvent,
        reference_id: &str,
        trace: &TraceContext,
    ) -> Result<(), PublishError> {
        let payload = serde_json::to_vec(event).expect("an event is plain data");
        let names = cloudevent_headers::headers_for(event, Some(trace));
        let outgoing = Outgoing {
            topic: &self.settings.output_topic,
            key: Some(place.event_key(reference_id)),
            payload: &payload,
            headers: headers::append(OwnedHeaders::new(), &names),
        };
        self.write(place, outgoing).await
    }

    /// Writes the original record, with the reason in its headers, and its position as key if it
    /// has none. Of a record with several entries, its value has the failed one only. If that is
    /// too large for the topic, leaves out the value, then the headers too. The reason contains the
    /// position of the original, and a poison record must not block its partition.
    ///
    /// # Errors
    /// Any error stops the worker.
    pub(crate) async fn publish_dead_letter(
        &self,
        place: AdmittedEntry<'_>,
        reason: Reason,
    ) -> Result<(), StreamError> {
        let AdmittedRecord { record, received_at, .. } = place.admitted;
        let (code, message) = (reason.code, reason.message.clone());
        spans::mark_failed(&Span::current(), code);
        let mut names = self.reason_headers(place, reason);
        let mut position =
            format!("{}-{}-{}", self.settings.input_topic, record.partition, record.offset);
        if let Some(index) = place.index() {
            position = format!("{position}-{index}");
        }
        if record.key.is_none() {
            names.push((GENERATED_KEY_HEADER.to_owned(), "true".to_owned()));
        }
        let original = record.headers.as_ref();
        let payload = place.alone.or(record.payload.as_deref()).unwrap_or_default();
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
            match self.write(place, outgoing).await {
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

    fn reason_headers(&self, place: AdmittedEntry<'_>, reason: Reason) -> Vec<(String, String)> {
        let reason = DeadLetterReason {
            code: reason.code.to_owned(),
            message: reason.message,
            stage: reason.stage.name().to_owned(),
            attempts: reason.attempts.max(1),
            time: Utc::now(),
            group: self.settings.group_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            original: self.source(place),
        };
        reason.headers()
    }
}
