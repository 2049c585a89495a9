//! Logs on standard error, for people or for machines.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

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

/// Installs the process-wide log on standard error.
///
/// # Errors
/// Fails if the filter cannot be parsed.
pub fn install(settings: &LogSettings, ansi: bool) -> Result<(), ParseError> {
    let filter = settings.filter.parse::<EnvFilter>()?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr);
    // A log that a test or an embedding program has installed is kept.
    let installed = match settings.format {
        LogFormat::Human => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("a log is already installed and is kept");
    }
    Ok(())
}
