//! The settings of the whole service: one section per module.

use serde::{Deserialize, Serialize};

use crate::engine;
use crate::imaging;
use crate::method;
use crate::pipeline;
use crate::storage;
use crate::stream;
use crate::telemetry;

/// All settings; `deploy/config/dogiqa.toml` shows each with its default and its manual.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Brokers, topics, the group, delivery.
    pub kafka: stream::Settings,
    /// What may be read, from where, within which limits.
    pub storage: storage::Settings,
    /// Limits of decoding.
    pub imaging: imaging::Settings,
    /// What segments and rates.
    pub engine: engine::Settings,
    /// Standard, regions, aggregation, policies.
    pub method: method::Settings,
    /// How much may be on the road at once.
    pub pipeline: pipeline::Settings,
    /// Logs, metrics, health.
    pub telemetry: telemetry::Settings,
}
