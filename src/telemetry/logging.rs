//! Logs on standard error, for people or for machines.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How a log line looks.
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
    /// `human` or `json`.
    pub format: LogFormat,
    /// What is shown, as `level` or `target=level,…`: `info`, `dog_iqa=debug,librdkafka=warn`.
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
/// When the filter is not one.
pub fn install(settings: &LogSettings, ansi: bool) -> Result<(), ParseError> {
    let filter = settings.filter.parse::<EnvFilter>()?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr);
    // A log that is installed already (a test, an embedding program) stays.
    let installed = match settings.format {
        LogFormat::Human => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("a log is installed already and stays");
    }
    Ok(())
}
