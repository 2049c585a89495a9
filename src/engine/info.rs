//! Names and versions of an engine and its models, as written to events.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::checkpoints::{Weights, WeightsError, sha256_of};
use crate::models::clip_iqa::ClipIqaSettings;
use crate::models::qwen3_5_vl::QRealignSettings;

/// A weight file, identified by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// File name without its folder.
    pub name: String,
    /// SHA-256 of its bytes in lower-case hexadecimal.
    pub sha256: String,
}

impl WeightsFile {
    /// Hashes a weight file.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn of(path: &Path) -> Result<Self, WeightsError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, sha256: sha256_of(path)? })
    }

    /// Hashes the files of a checkpoint.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn all_of(weights: &Weights) -> Result<Vec<Self>, WeightsError> {
        weights.files().into_iter().map(Self::of).collect()
    }
}

/// Name, version and weights of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Stable name of the model.
    pub name: String,
    /// Version that changes whenever the answer for the same input may change.
    pub version: String,
    /// Weight files that it runs on; empty if it needs none.
    pub weights: Vec<WeightsFile>,
}

/// One of several scorers of an engine, and its part in the ratings.
#[derive(Debug, Clone, PartialEq)]
pub struct ScorerShare {
    /// The scorer.
    pub model: ModelInfo,
    /// Weight in the ratings of the whole image, from 0 to 1.
    pub global: f64,
    /// Weight in the ratings of the objects, from 0 to 1.
    pub objects: f64,
}

/// The settings of those networks that rate, which every event names: they have no part in the
/// standard, and a later version may have other defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkSettings {
    /// Of a Qwen3.5-VL.
    pub q_realign: Option<QRealignSettings>,
    /// Of CLIP-IQA.
    pub clip_iqa: Option<ClipIqaSettings>,
}

/// Name and version of an engine and its models, written to every event.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineInfo {
    /// Name of the engine.
    pub name: String,
    /// Version that changes whenever the answer for the same picture may change.
    pub version: String,
    /// The engine's segmenter.
    pub segmenter: ModelInfo,
    /// The engine's scorer. The name of several contains all names, and their weights.
    pub scorer: ModelInfo,
    /// Each of several scorers; empty if one rates everything.
    pub scorers: Vec<ScorerShare>,
    /// Settings that the scorers' networks run with.
    pub scorer_settings: NetworkSettings,
    /// Settings of the models that differ from their defaults, by their names in the configuration.
    pub changed_settings: BTreeMap<String, Value>,
}
