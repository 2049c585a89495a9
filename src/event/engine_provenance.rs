//! The engine in a quality event: models, weights, settings.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::method::{Formula, LevelDistribution, ServedBy};

/// The engine that rated the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineProvenance {
    /// Name of the engine: `dog-iqa`, `classic`, or a custom one.
    pub name: String,
    /// Version of the engine.
    pub version: String,
    /// Name of the segmenter.
    pub segmenter: String,
    /// Name of the scorer. Of several, an expression of their names and weights, such as
    /// `global=a,objects=0.5*b+0.5*c`, and a digest of all.
    pub scorer: String,
    /// Each of several scorers. Absent if one rates everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scorers: Vec<EventScorer>,
    /// Settings that the scorers' networks ran with. Absent for a network whose settings are all
    /// named by the standard and by `changed_settings`.
    #[serde(default, skip_serializing_if = "ScorerSettings::is_empty")]
    pub scorer_settings: ScorerSettings,
    /// Standard of the levels, such as `word-7`.
    pub standard: String,
    /// Preset on which the settings are based, such as `paper`. Absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Formula of the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formula: Option<Formula>,
    /// Condition for segmenting objects: `never`, or `cascade-` with the band of expected levels
    /// and the confidence below which they are segmented. Absent if they always are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<String>,
    /// Fingerprint of all other settings that a score depends on: reading, cropping, selection of
    /// regions, the condition for segmenting, aggregation. Settings that save cost precede the
    /// digest in plain text, such as `side1024-regions8-`.
    #[serde(default)]
    pub settings: String,
    /// Every setting that a score depends on and that differs from its default, by its name in the
    /// configuration. Models and standard are named above.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed_settings: BTreeMap<String, Value>,
    /// The loaded weight files. Empty for an engine without weights.
    pub weights: Vec<WeightsDigest>,
    /// The scoring servers that rated this image, as their answers name them. Several if a load
    /// balancer has several behind one address. Absent if this process rated it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ScoringServer>,
}

/// One of several scorers, and its part in the ratings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventScorer {
    /// Name of the scorer.
    pub scorer: String,
    /// Weight of its probabilities in the rating of the whole image. 0 if it does not rate that.
    #[schemars(range(min = 0, max = 1))]
    pub global: f64,
    /// Weight of its probabilities in the ratings of the objects. 0 if it does not rate them.
    #[schemars(range(min = 0, max = 1))]
    pub objects: f64,
    /// Its weight files. Empty for a server.
    pub weights: Vec<WeightsDigest>,
}

/// Settings of the networks that rate, by their section in the configuration. They are present at
/// their defaults, too, because a later version may have others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ScorerSettings {
    /// Of a Qwen3.5-VL, such as Q-ReAlign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_realign: Option<QRealignScoring>,
    /// Of CLIP-IQA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_iqa: Option<ClipIqaScoring>,
}

/// The prompt and the images of a Qwen3.5-VL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QRealignScoring {
    /// The questions, `quality` or `aesthetics` or both. The first is the score's.
    pub questions: Vec<String>,
    /// The words of a question: `card`, `pyiqa` or `toolkit`.
    pub wording: String,
    /// The block of thoughts before the answer: `closed` or `open`.
    pub thinking: String,
    /// Rule of an image's size: `hub` or `train`.
    pub sizes: String,
    /// Largest area of an image in pixels; a larger one was reduced.
    pub pixels_max: u32,
}

/// The prompts and the images of CLIP-IQA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClipIqaScoring {
    /// The pairs of prompts: `paper` or `iqa-pytorch`.
    pub pairs: String,
    /// Largest area of an image in pixels; a larger one was reduced.
    pub pixels_max: u32,
}

/// A server that rated crops of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScoringServer {
    /// Name of the model in the server's answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The server's fingerprint of model and configuration, if it sends one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
}

/// One weight file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsDigest {
    /// Name of the file.
    pub name: String,
    /// SHA-256 of the file in hexadecimal.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}

impl ScorerSettings {
    /// Returns true if no network has settings to name.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl EngineProvenance {
    /// Adds the scoring servers of these ratings, each once.
    #[must_use]
    pub fn with_servers<'a>(
        mut self,
        ratings: impl IntoIterator<Item = &'a LevelDistribution>,
    ) -> Self {
        let served = ratings.into_iter().filter_map(|rating| Some(&*rating.served()?.by));
        let distinct: BTreeSet<&ServedBy> = served.collect();
        self.servers = distinct.into_iter().map(ScoringServer::from).collect();
        self
    }
}

impl From<&ServedBy> for ScoringServer {
    fn from(server: &ServedBy) -> Self {
        let ServedBy { model, system_fingerprint } = server.clone();
        Self { model, system_fingerprint }
    }
}
