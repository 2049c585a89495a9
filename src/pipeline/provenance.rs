//! Who rated: the engine's own words in the form that events carry.

use crate::engine::{EngineInfo, ModelInfo};
use crate::event::{EngineProvenance, WeightsDigest};
use crate::method::{ObjectsSettings, Standard};

/// What every event of this engine and this standard says of them.
pub(super) fn provenance(
    engine: &EngineInfo,
    standard: &Standard,
    objects: &ObjectsSettings,
) -> EngineProvenance {
    let weights = engine.segmenter.weights.iter().chain(&engine.scorer.weights);
    let digest =
        weights.map(|file| WeightsDigest { name: file.name.clone(), sha256: file.sha256.clone() });
    EngineProvenance {
        name: engine.name.clone(),
        version: engine.version.clone(),
        segmenter: model(&engine.segmenter),
        scorer: model(&engine.scorer),
        standard: standard.name(),
        objects: objects.name(),
        weights: digest.collect(),
    }
}

fn model(info: &ModelInfo) -> String {
    format!("{}/{}", info.name, info.version)
}
