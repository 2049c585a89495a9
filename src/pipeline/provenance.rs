//! Who rated, and how: the engine's own words in the form that events carry.

use sha2::{Digest, Sha256};

use crate::engine::{EngineInfo, ModelInfo};
use crate::event::{EngineProvenance, WeightsDigest};
use crate::imaging::CropMode;
use crate::method::{self, RegionSettings, Standard, short};

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
        settings: settings_of(method, crop),
        weights: digest.collect(),
    }
}

/// The dials of its cost by name, where they are turned, and a digest of everything.
fn settings_of(method: &method::Settings, crop: CropMode) -> String {
    let regions = &method.regions;
    let usual = RegionSettings::default();
    let side = (regions.side_max > 0).then(|| format!("side{}-", regions.side_max));
    let most = (regions.regions_max != usual.regions_max).then_some(regions.regions_max);
    let most = most.map(|most| format!("regions{most}-"));
    [side, most].into_iter().flatten().collect::<String>() + &digest_of(method, crop)
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
