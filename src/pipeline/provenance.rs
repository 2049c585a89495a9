//! Who rated, and how: the engine's own words in the form that events carry.

use sha2::{Digest, Sha256};

use crate::engine::{EngineInfo, ModelInfo};
use crate::event::{EngineProvenance, WeightsDigest};
use crate::imaging::CropMode;
use crate::method::{self, Standard, short};

/// What every event of this engine and this standard says of them.
pub(super) fn provenance(
    engine: &EngineInfo,
    standard: &Standard,
    (method, crop): (&method::Settings, CropMode),
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
        preset: method.preset.map(|preset| preset.name().to_owned()),
        objects: method.objects.name(),
        settings: digest_of(method, crop),
        weights: digest.collect(),
    }
}

/// Of what a score depends on beside the models and the standard, which have names of their own.
fn digest_of(method: &method::Settings, crop: CropMode) -> String {
    let settings = (crop, &method.regions, &method.objects, &method.aggregation);
    let json = serde_json::to_vec(&settings).expect("settings are plain numbers and names");
    short(&hex::encode(Sha256::digest(json)))
}

fn model(info: &ModelInfo) -> String {
    format!("{}/{}", info.name, info.version)
}
