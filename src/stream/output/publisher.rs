//! The producer for at-least-once delivery: sends a record until every in-sync replica has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, ClientContext, Statistics};

use crate::backoff::Backoff;
use crate::telemetry::metrics;

use crate::stream::broker::client_log::{log_client_error, log_client_line};
use crate::stream::broker::kafka_error::{
    QUEUE_FULL_WAIT, SendVerdict, configuration_error, permanent_send_error, send_verdict,
};
use crate::stream::broker::sasl_login::{Credentials, SaslLogin};
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
    singles: Arc<SingleRecords>,
    /// Readiness of the worker; `None` outside a worker.
    vitals: Option<Arc<Vitals>>,
}

/// A producer that sends each record in a request of its own, opened when a topic first refuses a
/// batch as too large.
struct SingleRecords {
    config: Mutex<ClientConfig>,
    context: DeliveryContext,
    producer: Mutex<Option<FutureProducer<DeliveryContext>>>,
}

/// A record that was not written.
struct FailedSend {
    error: KafkaError,
    /// They cannot be copied by name, because names that are not UTF-8 are unreadable.
    headers: OwnedHeaders,
    /// True if the brokers refused it, perhaps for another record of its batch. False if the client
    /// refused this record.
    was_sent: bool,
}

/// Logs error events of a producer. A fatal one stops the worker, if there is one.
#[derive(Clone, Default)]
pub(crate) struct DeliveryContext {
    fault: Option<Arc<Fault>>,
    login: Option<Arc<SaslLogin>>,
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
        login: Arc<SaslLogin>,
    ) -> Result<Self, StreamError> {
        let context = DeliveryContext { fault: Some(fault), login: Some(login) };
        Self::create(settings, context, Some(vitals))
    }

    /// Creates the producer of a worker's shadow. Its errors and its waits concern nothing else.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the configuration.
    pub(crate) fn open_for_shadow(
        settings: &Settings,
        login: Arc<SaslLogin>,
    ) -> Result<Self, StreamError> {
        Self::create(settings, DeliveryContext::with_login(login), None)
    }

    /// Reconnects with other credentials.
    pub(crate) fn log_in(&self, credentials: &Credentials) {
        credentials.apply(self.producer.client());
        self.singles.log_in(credentials);
    }

    fn create(
        settings: &Settings,
        context: DeliveryContext,
        vitals: Option<Arc<Vitals>>,
    ) -> Result<Self, StreamError> {
        let config = settings.producer_config()?;
        let singles = SingleRecords {
            config: Mutex::new(Settings::with_single_records(config.clone())),
            context: context.clone(),
            producer: Mutex::new(None),
        };
        let producer =
            config.create_with_context(context).map_err(|error| configuration_error(&error))?;
        Ok(Self { producer, singles: Arc::new(singles), vitals })
    }

    /// Writes a record and waits until all in-sync replicas have it. Retries transient failures
    /// indefinitely: drop the future to stop, for example after the partition is revoked. A record
    /// whose batch is too large is sent again alone.
    ///
    /// Dropping the future does not recall a record that was sent: it may still be written.
    ///
    /// # Errors
    /// [`PublishError`]; the record is not written then.
    pub async fn publish(&self, outgoing: Outgoing<'_>) -> Result<(), PublishError> {
        let Outgoing { topic, key, payload, mut headers } = outgoing;
        let mut waiting = None;
        let mut failures = 0;
        let mut single = None;
        loop {
            let producer = single.as_ref().unwrap_or(&self.producer);
            let FailedSend { error, headers: returned, was_sent } =
                match send(producer, topic, key, payload, headers).await {
                    Ok(()) => return Ok(()),
                    Err(failed) => failed,
                };
            headers = returned;
            match send_verdict(&error) {
                SendVerdict::QueueFull => {
                    tokio::time::sleep(QUEUE_FULL_WAIT).await;
                    continue;
                }
                SendVerdict::TooLarge if was_sent && single.is_none() => {
                    single = Some(self.singles.producer(topic)?);
                    continue;
                }
                SendVerdict::TooLarge => {
                    return Err(PublishError::TooLarge { topic: topic.to_owned() });
                }
                SendVerdict::Permanent => {
                    let fatal = producer.client().fatal_error();
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
}

impl SingleRecords {
    /// Returns the producer, and opens it at the first call.
    fn producer(&self, topic: &str) -> Result<FutureProducer<DeliveryContext>, StreamError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*producer {
            return Ok(open.clone());
        }
        tracing::warn!(
            topic,
            "the topic rejected a batch as too large; resending its records one per request; raise \
             its max.message.bytes or lower batch.size in kafka.properties"
        );
        let opened: FutureProducer<DeliveryContext> = self
            .config()
            .create_with_context(self.context.clone())
            .map_err(|error| configuration_error(&error))?;
        Ok(producer.insert(opened).clone())
    }

    fn log_in(&self, credentials: &Credentials) {
        credentials.set_in(&mut self.config());
        if let Some(open) = &*self.producer.lock().unwrap_or_else(PoisonError::into_inner) {
            credentials.apply(open.client());
        }
    }

    fn config(&self) -> MutexGuard<'_, ClientConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a record once.
async fn send(
    producer: &FutureProducer<DeliveryContext>,
    topic: &str,
    key: Option<&[u8]>,
    payload: &[u8],
    headers: OwnedHeaders,
) -> Result<(), FailedSend> {
    let mut record = FutureRecord::to(topic).payload(payload).headers(headers);
    record.key = key;
    let acknowledged = match producer.send_result(record) {
        Ok(acknowledged) => acknowledged,
        Err((error, record)) => {
            let headers = record.headers.unwrap_or_default();
            return Err(FailedSend { error, headers, was_sent: false });
        }
    };
    match acknowledged.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, mut message))) => {
            let headers = message.detach_headers().unwrap_or_default();
            Err(FailedSend { error, headers, was_sent: true })
        }
        // Unreachable: the caller holds the producer, which answers every record.
        Err(_) => Err(FailedSend {
            error: KafkaError::Canceled,
            headers: OwnedHeaders::new(),
            was_sent: true,
        }),
    }
}

impl DeliveryContext {
    /// Returns the context of a producer whose fatal errors its owner handles.
    pub(crate) fn with_login(login: Arc<SaslLogin>) -> Self {
        Self { fault: None, login: Some(login) }
    }
}

impl ClientContext for DeliveryContext {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_client_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(login) = &self.login {
            login.observe(&error);
        }
        log_client_error(&error, reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
            && let Some(fault) = &self.fault
        {
            fault.raise(StreamError::Fatal(reason.to_owned()));
        }
    }
}
