//! The value of a hand-crafted metric, as events have it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::{Better, Metric, Undefined};

/// The value of one hand-crafted metric for the whole image, or the reason why it has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = [{ "required": ["value"] }, { "required": ["reason"] }]))]
pub struct EventMeasure {
    /// Name of the metric: `niqe`, `brisque`, `biqi`, `bliinds2` or `piqe`.
    pub name: String,
    /// The value on the metric's own scale. Absent if the metric is not defined for the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The reason why there is no value, for people: the image is too small, or flat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `lower` if lower values are better, otherwise `higher`.
    pub better: Better,
    /// Version of the implementation, with the start of the parameters' SHA-256 if the metric has
    /// any, such as `1/fa2aa4d1`. Compare only values of one version.
    pub version: String,
}

impl EventMeasure {
    /// Creates an entry from the result of a measurement.
    pub fn new(metric: Metric, measured: Result<f64, Undefined>, version: String) -> Self {
        let (value, reason) = match measured {
            Ok(value) => (Some(value), None),
            Err(reason) => (None, Some(reason.to_string())),
        };
        Self { name: metric.name().to_owned(), value, reason, better: metric.better(), version }
    }
}
