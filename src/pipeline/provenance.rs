//! Provenance of a score: the engine, the standard and the settings, in the form of events.

use sha2::{Digest, Sha256};

use crate::engine::{EngineInfo, ModelInfo};
use crate::event::{EngineProvenance, WeightsDigest};
use crate::imaging::CropMode;
use crate::method::{self, RegionSettings, Standard, short};

/// Returns the provenance that all events of this engine, standard and settings contain.
pub(crate) fn provenance(
    engine: &EngineInfo,
    standard: &Standard,
    method: &method::Settings,
    crop: CropMode,
) -> EngineProvenance {
    let weights = engine.segmenter.weights.iter().chain(&engine.scorer.weights);
    let digests =
        weights.map(|file| WeightsDigest { name: file.name.clone(), sha256: file.sha256.clone() });
    EngineProvenance {
        name: engine.name.clone(),
        version: engine.version.clone(),
        segmenter: model(&engine.segmenter),
        scorer: model(&engine.scorer),
        standard: standard.name(),
        preset: method.preset.map(|preset| preset.name().to_owned()),
        objects: method.objects.name(),
        settings: settings_of(method, crop),
        weights: digests.collect(),
    }
}

/// Names the settings that reduce the cost, if they differ from the defaults, and appends a digest
/// of all settings.
fn settings_of(method: &method::Settings, crop: CropMode) -> String {
    let regions = &method.regions;
    let is_custom = regions.regions_max != RegionSettings::default().regions_max;
    let side = (regions.side_max > 0).then(|| format!("side{}-", regions.side_max));
    let count = is_custom.then(|| format!("regions{}-", regions.regions_max));
    let names: String = [side, count].into_iter().flatten().collect();
    names + &digest_of(method, crop)
}

/// Digests the settings that a score depends on. Models and standard are named elsewhere.
fn digest_of(method: &method::Settings, crop: CropMode) -> String {
    let settings = (crop, &method.regions, &method.objects, &method.aggregation);
    let json = serde_json::to_vec(&settings).expect("settings are plain numbers and names");
    short(&hex::encode(Sha256::digest(json)))
}

fn model(info: &ModelInfo) -> String {
    format!("{}/{}", info.name, info.version)
}
