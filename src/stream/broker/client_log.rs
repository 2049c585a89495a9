//! librdkafka's error events and log lines in the log of this service.
//!
//! librdkafka repairs its connections by itself and repeats its lines without end. So an error
//! event is logged once a minute and code, a line of level warning or above once a minute and
//! facility, and other lines only at debug level. The call that fails decides if the worker stops.

use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::redact;
use crate::stream::broker::kafka_error::code_of;
use crate::telemetry::LineLimit;

static ERRORS: LineLimit = LineLimit::new(Duration::from_mins(1));
static LINES: LineLimit = LineLimit::new(Duration::from_mins(1));

/// Logs an error event of a client.
pub(crate) fn log_client_error(error: &KafkaError, reason: &str) {
    let code = code_of(error);
    let reason = redact::librdkafka_reason(reason);
    let Some(repeated) = ERRORS.admit(&format!("{code:?}"), Instant::now()) else {
        tracing::debug!(%code, reason, "the Kafka client reports");
        return;
    };
    match code {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => {
            tracing::warn!(%code, reason, repeated, "authentication or TLS with a broker failed");
        }
        code => tracing::info!(%code, reason, repeated, "the Kafka client reports"),
    }
}

/// Logs a line of librdkafka. The target lets a filter select these lines.
pub(crate) fn log_client_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    let line = redact::librdkafka_reason(line);
    let is_grave = matches!(
        level,
        RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
    );
    let admitted = is_grave.then(|| LINES.admit(facility, Instant::now())).flatten();
    if let Some(repeated) = admitted {
        tracing::warn!(target: "librdkafka", facility, line, repeated, "the Kafka client reports");
    } else {
        tracing::debug!(target: "librdkafka", facility, line, "the Kafka client reports");
    }
}
