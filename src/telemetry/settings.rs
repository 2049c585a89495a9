//! Settings of telemetry.

use serde::{Deserialize, Serialize};

use crate::telemetry::logging::LogSettings;
use crate::telemetry::otlp::OtlpSettings;
use crate::telemetry::server::ServerSettings;

/// Settings of telemetry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The log on standard error.
    pub log: LogSettings,
    /// The health and metrics server.
    pub server: ServerSettings,
    /// Export of traces and metrics to an OpenTelemetry collector.
    pub otlp: OtlpSettings,
}
