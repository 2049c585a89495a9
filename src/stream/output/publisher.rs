//! The producer for at-least-once delivery: sends a record until every in-sync replica has it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientContext, Statistics};

use crate::backoff::Backoff;
use crate::telemetry::metrics;

use crate::stream::broker::kafka_error::{
    QUEUE_FULL_WAIT, SendVerdict, configuration_error, log_client_error, permanent_send_error,
    send_verdict,
};
use crate::stream::error::StreamError;
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::settings::Settings;
use crate::stream::status::fault::Fault;
use crate::stream::status::vitals::Vitals;

/// Delays before a record is sent again.
const RETRY: Backoff =
    Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(5), jitter: 0.5 };

/// An idempotent producer; clones share it.
#[derive(Clone)]
pub struct Publisher {
    producer: FutureProducer<DeliveryContext>,
    /// Readiness of the worker; `None` outside a worker.
    vitals: Option<Arc<Vitals>>,
}

/// Logs error events of a producer. A fatal one stops the worker, if there is one.
#[derive(Debug, Default)]
pub(crate) struct DeliveryContext {
    fault: Option<Arc<Fault>>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Publisher {
    /// Creates a producer outside a worker, to write references for example.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the configuration.
    pub fn open(settings: &Settings) -> Result<Self, StreamError> {
        Self::create(settings, DeliveryContext::default(), None)
    }

    /// Creates the producer of a worker. Its fatal errors stop the worker, and while a record waits
    /// to be sent again the worker is not ready.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the configuration.
    pub(crate) fn open_in_worker(
        settings: &Settings,
        fault: Arc<Fault>,
        vitals: Arc<Vitals>,
    ) -> Result<Self, StreamError> {
        Self::create(settings, DeliveryContext { fault: Some(fault) }, Some(vitals))
    }

    fn create(
        settings: &Settings,
        context: DeliveryContext,
        vitals: Option<Arc<Vitals>>,
    ) -> Result<Self, StreamError> {
        let config = settings.producer_config()?;
        let producer =
            config.create_with_context(context).map_err(|error| configuration_error(&error))?;
        Ok(Self { producer, vitals })
    }

    /// Writes a record and waits until all in-sync replicas have it. Retries transient failures
    /// indefinitely: drop the future to stop, for example after the partition is revoked.
    ///
    /// Dropping the future does not recall a record that was sent: it may still be written.
    ///
    /// # Errors
    /// [`PublishError`]; the record is not written then.
    pub async fn publish(&self, outgoing: Outgoing<'_>) -> Result<(), PublishError> {
        let Outgoing { topic, key, payload, mut headers } = outgoing;
        let mut waiting = None;
        let mut failures = 0;
        loop {
            let (error, returned) = match self.send(topic, key, payload, headers).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            headers = returned;
            match send_verdict(&error) {
                SendVerdict::QueueFull => {
                    tokio::time::sleep(QUEUE_FULL_WAIT).await;
                    continue;
                }
                SendVerdict::TooLarge => {
                    return Err(PublishError::TooLarge { topic: topic.to_owned() });
                }
                SendVerdict::Permanent => {
                    let fatal = self.producer.client().fatal_error();
                    return Err(permanent_send_error(fatal, topic, error).into());
                }
                SendVerdict::Transient => {}
            }
            waiting = waiting.or_else(|| self.vitals.as_deref().map(Vitals::unpublished));
            metrics::publish_retried();
            tracing::debug!(topic, %error, "a record was not acknowledged and is sent again");
            failures += 1;
            tokio::time::sleep(RETRY.delay(failures)).await;
        }
    }

    /// Sends once. Returns the headers with the error: they cannot be copied by name, because names
    /// that are not UTF-8 are unreadable.
    async fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: &[u8],
        headers: OwnedHeaders,
    ) -> Result<(), (KafkaError, OwnedHeaders)> {
        let mut record = FutureRecord::to(topic).payload(payload).headers(headers);
        record.key = key;
        let acknowledged = match self.producer.send_result(record) {
            Ok(acknowledged) => acknowledged,
            Err((error, record)) => return Err((error, record.headers.unwrap_or_default())),
        };
        match acknowledged.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, mut message))) => {
                Err((error, message.detach_headers().unwrap_or_default()))
            }
            // Unreachable: this future borrows the producer, which answers every record.
            Err(_) => Err((KafkaError::Canceled, OwnedHeaders::new())),
        }
    }
}

impl ClientContext for DeliveryContext {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&error, reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
            && let Some(fault) = &self.fault
        {
            fault.raise(StreamError::Fatal(reason.to_owned()));
        }
    }
}
