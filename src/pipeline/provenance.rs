//! Provenance of a score: the engine, the standard and the settings, in the form of events.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::changed_settings::changed_settings;
use crate::engine::{EngineInfo, ModelInfo, NetworkSettings, ScorerShare, WeightsFile};
use crate::event::{
    ClipIqaScoring, EngineProvenance, EventScorer, QRealignScoring, ScorerSettings, WeightsDigest,
};
use crate::imaging::{self, CropMargin, CropMode};
use crate::method::{self, RegionSettings, Standard, short};

/// The settings of a journey that a score depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoreSettings<'a> {
    pub(crate) method: &'a method::Settings,
    pub(crate) imaging: &'a imaging::Settings,
    pub(crate) crop: CropMode,
    pub(crate) crop_margin: CropMargin,
}

/// Returns the provenance that all events of this engine, standard and settings contain.
pub(crate) fn provenance(
    engine: &EngineInfo,
    standard: &Standard,
    settings: ScoreSettings<'_>,
) -> EngineProvenance {
    let method = settings.method;
    let mut changed = settings.changed();
    changed.extend(engine.changed_settings.clone());
    EngineProvenance {
        name: engine.name.clone(),
        version: engine.version.clone(),
        segmenter: model(&engine.segmenter),
        scorer: model(&engine.scorer),
        scorers: engine.scorers.iter().map(scorer).collect(),
        scorer_settings: scorer_settings(engine.scorer_settings),
        standard: standard.name(),
        preset: method.preset.map(|preset| preset.name().to_owned()),
        formula: Some(method.aggregation.formula()),
        objects: method.objects.name(),
        settings: settings.fingerprint(),
        changed_settings: changed,
        weights: [&engine.segmenter, &engine.scorer].into_iter().flat_map(digests).collect(),
        servers: Vec::new(),
    }
}

impl ScoreSettings<'_> {
    /// Lists the settings that differ from their defaults. Models and standard are named elsewhere.
    fn changed(&self) -> BTreeMap<String, Value> {
        let method::Settings { regions, objects, aggregation, .. } = self.method.clone();
        let method =
            method::Settings { regions, objects, aggregation, ..method::Settings::default() };
        let imaging::Settings { orientation, colour, alpha, .. } = *self.imaging;
        let imaging =
            imaging::Settings { orientation, colour, alpha, ..imaging::Settings::default() };
        let mut changed = changed_settings("method", &method, &method::Settings::default());
        changed.extend(changed_settings("imaging", &imaging, &imaging::Settings::default()));
        changed.extend(changed_settings("pipeline.crop", &self.crop, &CropMode::default()));
        let margin = CropMargin::default();
        changed.extend(changed_settings("pipeline.crop_margin", &self.crop_margin, &margin));
        changed
    }

    /// Names the settings that reduce the cost, if they differ from the defaults, and appends a
    /// digest of all settings.
    fn fingerprint(&self) -> String {
        let regions = &self.method.regions;
        let is_custom = regions.regions_max != RegionSettings::default().regions_max;
        let side = (regions.side_max > 0).then(|| format!("side{}-", regions.side_max));
        let count = is_custom.then(|| format!("regions{}-", regions.regions_max));
        let names: String = [side, count].into_iter().flatten().collect();
        names + &self.digest()
    }

    /// Digests the settings. Models and standard are named elsewhere.
    fn digest(&self) -> String {
        let method::Settings { regions, objects, aggregation, .. } = self.method;
        let imaging::Settings { orientation, colour, alpha, .. } = self.imaging;
        let settings = (self.crop, regions, objects, aggregation, (orientation, colour, alpha));
        let mut digest = Sha256::new_with_prefix(json(&settings));
        if !self.crop_margin.is_none() {
            digest.update(json(&self.crop_margin));
        }
        short(&hex::encode(digest.finalize()))
    }
}

fn json(settings: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(settings).expect("settings are plain numbers and names")
}

fn digests(info: &ModelInfo) -> Vec<WeightsDigest> {
    let digest =
        |file: &WeightsFile| WeightsDigest { name: file.name.clone(), sha256: file.sha256.clone() };
    info.weights.iter().map(digest).collect()
}

fn scorer(share: &ScorerShare) -> EventScorer {
    let ScorerShare { model: info, global, objects } = share;
    let (global, objects) = (*global, *objects);
    EventScorer { scorer: model(info), global, objects, weights: digests(info) }
}

fn scorer_settings(networks: NetworkSettings) -> ScorerSettings {
    ScorerSettings {
        q_realign: networks.q_realign.map(|settings| QRealignScoring {
            questions: settings.question.all().map(|question| name(&question)).collect(),
            wording: name(&settings.wording),
            thinking: name(&settings.thinking),
            sizes: name(&settings.sizes),
            pixels_max: settings.pixels_max,
        }),
        clip_iqa: networks.clip_iqa.map(|settings| ClipIqaScoring {
            pairs: name(&settings.pairs),
            pixels_max: settings.pixels_max,
        }),
    }
}

/// Returns the name of a setting's value in the configuration.
fn name(value: &impl Serialize) -> String {
    let name = serde_json::to_value(value).expect("settings are plain numbers and names");
    name.as_str().expect("the value is a name").to_owned()
}

fn model(info: &ModelInfo) -> String {
    format!("{}/{}", info.name, info.version)
}
