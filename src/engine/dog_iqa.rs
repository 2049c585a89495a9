//! The paper's engine: SAM 2 cuts, mPLUG-Owl3 rates.

use std::sync::Arc;

use candle_core::Device;

use crate::engine::handle::EngineError;
use crate::engine::mplug_owl3::MplugOwl3Scorer;
use crate::engine::sam2::Sam2Segmenter;
use crate::engine::settings::DogIqaSettings;
use crate::engine::traits::{ModelInfo, Scorer, Segmenter};
use crate::method::{Standard, fingerprint, short};

/// Name of the engine in events.
pub(super) const NAME: &str = "dog-iqa";
/// Raised whenever the same picture may get another answer from the same models.
const VERSION: &str = "1";

/// Both models, opened, and the version of what they are together.
pub(super) struct DogIqa {
    pub(super) version: String,
    pub(super) segmenter: Arc<dyn Segmenter>,
    pub(super) scorer: Arc<dyn Scorer>,
}

/// Opens both checkpoints; a path that is not set is refused before anything is read.
pub(super) fn open(settings: &DogIqaSettings, standard: &Standard) -> Result<DogIqa, EngineError> {
    for (key, path) in [("segmenter", &settings.segmenter), ("scorer", &settings.scorer)] {
        if path.as_os_str().is_empty() {
            return Err(EngineError::NoWeights { key });
        }
    }
    let failed = |key, error: &dyn std::fmt::Display| EngineError::Weights {
        key,
        message: error.to_string(),
    };
    settings.masks.check().map_err(|message| failed("masks", &message))?;
    let dtype = settings.dtype.dtype();
    let path = &settings.segmenter;
    let segmenter = Sam2Segmenter::open(path, settings.masks.clone(), dtype, &Device::Cpu)
        .map_err(|error| failed("segmenter", &error))?;
    let path = &settings.scorer;
    let on = (dtype, &Device::Cpu);
    let scorer = MplugOwl3Scorer::open(path, standard, settings.rating.clone(), on)
        .map_err(|error| failed("scorer", &error))?;
    let version = version(&[segmenter.info(), scorer.info()]);
    Ok(DogIqa { version, segmenter: Arc::new(segmenter), scorer: Arc::new(scorer) })
}

/// Differs whenever a model, its parameters or its weights do.
fn version(models: &[ModelInfo]) -> String {
    let texts = models.iter().flat_map(|model| {
        let digests = model.weights.iter().map(|file| &file.sha256);
        [&model.name, &model.version].into_iter().chain(digests)
    });
    format!("{VERSION}-{}", short(&fingerprint(texts)))
}
