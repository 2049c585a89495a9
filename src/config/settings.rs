//! The settings of the whole service: one section per module.

use serde::{Deserialize, Serialize};

use crate::cache;
use crate::engine;
use crate::imaging;
use crate::method;
use crate::monitor;
use crate::pipeline;
use crate::serve;
use crate::storage;
use crate::stream;
use crate::telemetry;

/// All settings. `deploy/config/dogiqa.toml` shows and explains each with its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Brokers, topics, consumer group and delivery guarantee.
    pub kafka: stream::Settings,
    /// Allowed image stores and hosts, with limits on reading.
    pub storage: storage::Settings,
    /// Limits on decoding.
    pub imaging: imaging::Settings,
    /// The segmenter and the scorer.
    pub engine: engine::Settings,
    /// Standard, regions, aggregation and policies.
    pub method: method::Settings,
    /// Limits on images in flight.
    pub pipeline: pipeline::Settings,
    /// The page of `dogiqa monitor`.
    pub monitor: monitor::Settings,
    /// The HTTP API.
    pub serve: serve::Settings,
    /// Answers kept on disk, by the bytes of the image.
    pub cache: cache::Settings,
    /// Logs, metrics and health.
    pub telemetry: telemetry::Settings,
}
