//! The part of the configuration that chooses and sizes an engine.

use serde::{Deserialize, Serialize};

use crate::engine::lane::Limits;

/// Which engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// Graph-based segmentation and hand-crafted measures: needs no weights and no accelerator. It
    /// is not the paper's method, and its events name it.
    #[default]
    Classic,
}

/// Sizes of the queue in front of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaneSettings {
    /// Prepared inputs that may wait for the model; more hold the pipeline back.
    pub queue: usize,
    /// Pixels in one batch. An input larger than this runs alone.
    pub batch_pixels: usize,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self { queue: 64, batch_pixels: 2_000_000 }
    }
}

impl From<&LaneSettings> for Limits {
    fn from(settings: &LaneSettings) -> Self {
        Self { queue: settings.queue.max(1), batch_cost: settings.batch_pixels }
    }
}

/// Settings of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `classic`: graph-based segmentation and hand-crafted measures, on the CPU, without weights.
    pub name: EngineName,
    /// The queue in front of the segmenter.
    pub segment: LaneSettings,
    /// The queue in front of the scorer.
    pub score: LaneSettings,
}
