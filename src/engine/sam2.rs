//! SAM 2 behind the segmenter's trait.

use std::path::Path;

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};

use crate::checkpoints::{Sam2Checkpoint, WeightsError};
use crate::engine::failure::run_error;
use crate::engine::lane::RunError;
use crate::engine::traits::{ModelInfo, Segmenter, WeightsFile};
use crate::imaging::Picture;
use crate::method::{Mask, RawMask, short};
use crate::models::ModelInput;
use crate::models::device::kind_of;
use crate::models::sam2::amg::{
    AmgError, AmgSettings, GeneratedMask as Found, MaskGenerator, PreparedImage as Prepared,
    prepare,
};

/// Raised whenever the same picture may get other masks with the same weights and parameters.
const VERSION: &str = "1";

/// Why a SAM 2 did not open.
#[derive(Debug, thiserror::Error)]
pub enum Sam2Error {
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The parameters of the mask generator.
    #[error(transparent)]
    Amg(#[from] AmgError),
}

/// Every object of a picture, found by SAM 2's automatic mask generator.
#[derive(Debug)]
pub struct Sam2Segmenter {
    generator: MaskGenerator,
    info: ModelInfo,
}

impl Sam2Segmenter {
    /// Opens a checkpoint: a file or a folder, original or from the Hub, of any size.
    ///
    /// # Errors
    /// Weights that cannot be used, or parameters that no run could have.
    pub fn open(
        path: &Path,
        settings: AmgSettings,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, Sam2Error> {
        let checkpoint = Sam2Checkpoint::open(path)?;
        let model = checkpoint.load(dtype, device)?;
        let weights = checkpoint.weights().files().into_iter().map(WeightsFile::of);
        let size = checkpoint.size().map_or("custom", |size| size.name());
        // The same weights find other masks with other parameters, or as another network.
        let parameters = format!("{settings:?} {:?}", checkpoint.config());
        let parameters = short(&hex::encode(Sha256::digest(parameters)));
        // What it costs most by can be read without a table.
        let points = settings.points_per_side;
        let info = ModelInfo {
            name: format!("sam{}-{size}", checkpoint.version().name()),
            version: format!(
                "{VERSION}-{}-{}-points{points}-{parameters}",
                kind_of(device),
                dtype.as_str()
            ),
            weights: weights.collect::<Result<_, WeightsError>>()?,
        };
        Ok(Self { generator: MaskGenerator::new(model, settings)?, info })
    }

    /// The masks of one picture with all that the generator knows of them, in its order.
    ///
    /// # Errors
    /// What [`Segmenter::segment`] says.
    pub fn find(&self, picture: &Picture) -> Result<Vec<Found>, RunError> {
        let input = self.prepare(picture)?;
        Ok(self.found(std::slice::from_ref(&input))?.into_iter().flatten().collect())
    }

    fn found(&self, batch: &[ModelInput]) -> Result<Vec<Vec<Found>>, RunError> {
        let prepared: Vec<Prepared> = batch
            .iter()
            .map(|input| Prepared { crops: input.tensor().clone(), size: input.source_size() })
            .collect();
        self.generator.generate(&prepared).map_err(|error| match error {
            AmgError::Tensor(error) => run_error(&error),
            other => RunError::Batch(other.to_string().into()),
        })
    }
}

impl Segmenter for Sam2Segmenter {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    /// Costs the pixels of the network's input, of all crops.
    fn prepare(&self, picture: &Picture) -> Result<ModelInput, RunError> {
        let size = self.generator.model().config().image_size;
        let prepared = prepare(picture.pixels(), self.generator.settings(), size)
            .map_err(|error| RunError::Batch(error.to_string().into()))?;
        let cost = prepared.crops.elem_count() / 3;
        Ok(ModelInput::of_tensor(prepared.crops, prepared.size, cost))
    }

    fn segment(&self, batch: &[ModelInput]) -> Result<Vec<Vec<RawMask>>, RunError> {
        let raw = |found: Found| {
            // Without filters the generator also gives masks without a pixel.
            let mask = Mask::new(found.rle).ok()?;
            let (iou, stability) = (found.predicted_iou, found.stability_score);
            Some(RawMask { mask, predicted_iou: Some(iou), stability_score: Some(stability) })
        };
        let found = self.found(batch)?.into_iter();
        Ok(found.map(|found| found.into_iter().filter_map(raw).collect()).collect())
    }
}
