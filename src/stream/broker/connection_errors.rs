//! Collects the connection errors of a probe and turns them into an error with a remedy.

use std::sync::{Mutex, MutexGuard, PoisonError};

use humantime::format_duration;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Statistics};

use crate::redact;
use crate::stream::broker::client_log::{log_client_error, log_client_line};
use crate::stream::broker::kafka_error::code_of;
use crate::stream::broker::tls_diagnosis::explain_distrust;
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Maximum number of errors that are kept.
const ERRORS_MAX: usize = 64;

/// The client context of a probe: keeps the errors of its connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionErrors {
    errors: Mutex<Vec<ConnectionError>>,
}

/// An error event of librdkafka.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionError {
    code: RDKafkaErrorCode,
    reason: String,
}

impl ConnectionErrors {
    /// Returns the first error with which a broker refused this client, or this client refused a
    /// broker.
    pub(crate) fn refusal(&self) -> Option<ConnectionError> {
        self.lock().iter().find(|error| error.is_refusal()).cloned()
    }

    /// Returns the error for brokers that did not answer in time; `error` is that of the request.
    pub(crate) fn unreachable(&self, settings: &Settings, error: &KafkaError) -> StreamError {
        let errors = self.lock();
        // "All brokers are down" follows the error with the cause.
        let cause =
            errors.iter().rev().find(|error| error.code != RDKafkaErrorCode::AllBrokersDown);
        let reason = match cause {
            Some(ConnectionError { reason, .. }) if reason.contains("SSL_HANDSHAKE") => format!(
                "{reason}: the brokers end the TLS handshake, as brokers without TLS do; set \
                 another security.protocol in kafka.properties"
            ),
            Some(ConnectionError { reason, .. }) => reason.clone(),
            None if errors.is_empty() => error.to_string(),
            // librdkafka reports no cause if a broker closes the connection without a response.
            None => "the brokers close every connection at once, as they do if they expect TLS, \
                     SASL or neither; set another security.protocol in kafka.properties"
                .to_owned(),
        };
        StreamError::Unreachable {
            brokers: settings.bootstrap_servers.clone(),
            waited: format_duration(settings.probe_timeout),
            reason,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ConnectionError>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionError {
    fn is_refusal(&self) -> bool {
        matches!(self.code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
            || is_certificate_alert(&self.reason)
    }

    /// Names the side that refuses the other, and the remedy. Blocks for up to a few seconds to
    /// diagnose a certificate.
    pub(crate) fn into_security_error(self, settings: &Settings) -> StreamError {
        let Self { code, reason } = self;
        let brokers = &settings.bootstrap_servers;
        let text = match code {
            RDKafkaErrorCode::Authentication => format!(
                "the brokers at {brokers} refuse the credentials: {reason}; check sasl.mechanism, \
                 sasl.username and sasl.password in kafka.properties"
            ),
            RDKafkaErrorCode::SSL => match untrusted_broker(settings, &reason) {
                Some(UntrustedBroker { address, remedy }) => {
                    format!("the certificate of the broker at {address} is not trusted: {remedy}")
                }
                None => format!(
                    "no trusted TLS connection to the brokers at {brokers}: {reason}; check \
                     security.protocol, ssl.ca.location and the host name in \
                     kafka.bootstrap_servers"
                ),
            },
            _ => format!(
                "the brokers at {brokers} refuse this worker's certificate, or the lack of one: \
                 {reason}; set ssl.certificate.location and ssl.key.location in kafka.properties \
                 to one that they trust"
            ),
        };
        StreamError::Security(text)
    }
}

struct UntrustedBroker<'a> {
    address: &'a str,
    /// The fault of the certificate, and the remedy.
    remedy: String,
}

/// Returns the broker whose certificate is not trusted, or `None` if the cause is another one or
/// cannot be determined.
fn untrusted_broker<'a>(settings: &Settings, reason: &'a str) -> Option<UntrustedBroker<'a>> {
    if !reason.contains("certificate verify failed") {
        return None;
    }
    // `ssl://host:port/bootstrap: SSL handshake failed …`
    let (address, _) = reason.split_once("://")?.1.split_once('/')?;
    let properties = settings.properties.resolve().ok()?;
    let remedy = explain_distrust(address, &properties)?;
    Some(UntrustedBroker { address, remedy })
}

/// Returns true if the broker closed the connection because of this client's certificate. OpenSSL
/// writes the name of the TLS alert.
fn is_certificate_alert(reason: &str) -> bool {
    reason.contains("alert") && (reason.contains("certificate") || reason.contains("unknown ca"))
}

impl ClientContext for ConnectionErrors {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_client_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = code_of(&error);
        let mut errors = self.lock();
        // "All brokers are down" repeats with every attempt to connect.
        if code == RDKafkaErrorCode::AllBrokersDown && errors.iter().any(|known| known.code == code)
        {
            return;
        }
        log_client_error(&error, reason);
        // The first errors suffice: a probe is short and reconnects a few times only.
        if errors.len() < ERRORS_MAX {
            errors.push(ConnectionError {
                code,
                reason: redact::librdkafka_reason(reason).to_owned(),
            });
        }
    }
}

impl ConsumerContext for ConnectionErrors {}
