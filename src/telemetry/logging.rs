//! Logs on standard error, for people or for machines.

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{FilterExt, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::telemetry::otlp::Otlp;
use crate::telemetry::spans;

/// Formats of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    Human,
    /// One JSON object per event.
    Json,
}

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Format of a log line: `human` (readable text) or `json` (one object per line).
    pub format: LogFormat,
    /// Minimum level of log lines, for all modules (`info`) or by module
    /// (`dog_iqa=debug,librdkafka=warn`). At `debug`, every image is logged.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".to_owned() }
    }
}

/// Installs the process-wide log on standard error. With `otlp`, exports spans to a collector too.
///
/// # Errors
/// Fails if the filter cannot be parsed.
pub fn install(settings: &LogSettings, ansi: bool, otlp: Option<&Otlp>) -> Result<(), ParseError> {
    let filter = settings.filter.parse::<EnvFilter>()?;
    // Every image has these spans; log lines would repeat them.
    let is_logged = filter_fn(|metadata| metadata.target() != spans::TARGET);
    let filter = filter.and(is_logged.with_max_level_hint(LevelFilter::TRACE));
    let log = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    let log = match settings.format {
        LogFormat::Human => log.with_target(false).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    let traces = otlp.map(|otlp| {
        let is_exported =
            filter_fn(|metadata| metadata.is_span() && metadata.target() == spans::TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(otlp.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(is_exported.with_max_level_hint(LevelFilter::DEBUG))
    });
    // A log that a test or an embedding program has installed is kept.
    let layers = tracing_subscriber::registry().with(log.with_filter(filter)).with(traces);
    if layers.try_init().is_err() {
        tracing::debug!("a log is already installed and is kept");
    }
    Ok(())
}
