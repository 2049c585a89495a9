//! Settings of what the operator sees.

use serde::{Deserialize, Serialize};

use super::logging::LogSettings;
use super::server::ServerSettings;

/// Settings of telemetry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The log on standard error.
    pub log: LogSettings,
    /// The health and metrics server.
    pub server: ServerSettings,
}
