//! The producer: answers go out until every in-sync replica has them.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientContext, Statistics};

use crate::telemetry::metrics;

use crate::stream::broker::kafka_error::{
    QUEUE_FULL_WAIT, SendVerdict, configuration_error, log_client_error, permanent_send_error,
    send_verdict,
};
use crate::stream::error::StreamError;
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::settings::Settings;
use crate::stream::shared::Shared;

/// First and last wait before a record is sent again.
const RETRY_WAIT: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// An idempotent producer; clones share it.
#[derive(Clone)]
pub struct Publisher {
    producer: FutureProducer<DeliveryContext>,
    shared: Option<Arc<Shared>>,
}

/// Reports what librdkafka says about the producer.
pub(crate) struct DeliveryContext {
    shared: Option<Arc<Shared>>,
}

impl DeliveryContext {
    pub(crate) fn new(shared: Option<Arc<Shared>>) -> Self {
        Self { shared }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Publisher {
    /// Makes a producer of its own, for what is sent besides a worker: references, say.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn open(settings: &Settings) -> Result<Self, StreamError> {
        Self::create(settings, None)
    }

    /// Makes the producer of a worker, which hears of its errors.
    pub(crate) fn of_worker(shared: &Arc<Shared>) -> Result<Self, StreamError> {
        Self::create(&shared.settings, Some(Arc::clone(shared)))
    }

    fn create(settings: &Settings, shared: Option<Arc<Shared>>) -> Result<Self, StreamError> {
        let context = DeliveryContext::new(shared.clone());
        let producer = settings.producer_config()?.create_with_context(context);
        Ok(Self { producer: producer.map_err(|error| configuration_error(&error))?, shared })
    }

    /// Writes a record and waits until all in-sync replicas have it. What fails in passing is sent
    /// again without end; the caller drops the future when the record is no longer its own.
    ///
    /// Dropping the future does not recall a record that was sent: it may still be written.
    ///
    /// # Errors
    /// [`PublishError`]; the record was not written then.
    pub async fn publish(&self, outgoing: Outgoing<'_>) -> Result<(), PublishError> {
        let Outgoing { topic, key, payload, mut headers } = outgoing;
        let mut trouble = None;
        let mut wait = RETRY_WAIT;
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
            trouble = trouble.or_else(|| self.shared.as_deref().map(Trouble::begin));
            metrics::publish_retried();
            tracing::debug!(topic, %error, "a record was not acknowledged and is sent again");
            tokio::time::sleep(wait.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    /// Sends once; gives the headers back with the error, they may not be readable by name.
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
            // The producer outlives its records: it is part of this future.
            Err(_) => Err((KafkaError::Canceled, OwnedHeaders::new())),
        }
    }
}

/// A record that waits to be sent again: the worker is not ready meanwhile.
struct Trouble<'a> {
    shared: &'a Shared,
}

impl<'a> Trouble<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.vitals().unpublished += 1;
        Self { shared }
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        self.shared.vitals().unpublished -= 1;
    }
}

impl ClientContext for DeliveryContext {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&error, reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
            && let Some(shared) = &self.shared
        {
            shared.fault.raise(StreamError::Fatal(reason.to_owned()));
        }
    }
}
