//! SAM 2 as a [`Segmenter`].

use std::path::Path;

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};

use crate::checkpoints::{Sam2Checkpoint, WeightsError};
use crate::engine::adapters::tensor_error::run_error;
use crate::engine::info::{ModelInfo, WeightsFile};
use crate::engine::lane::RunError;
use crate::engine::traits::Segmenter;
use crate::imaging::Picture;
use crate::method::{Mask, RawMask, short};
use crate::models::device::kind_of;
use crate::models::sam2::amg::{
    AmgError, AmgSettings, GeneratedMask, MaskGenerator, PreparedImage, prepare,
};

/// Increased whenever the masks of a picture may change with the same weights and parameters.
const VERSION: &str = "1";

/// The reason why a SAM 2 model did not open.
#[derive(Debug, thiserror::Error)]
pub enum Sam2Error {
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The parameters of the mask generator cannot be used.
    #[error(transparent)]
    Amg(#[from] AmgError),
}

/// Finds the objects of a picture with SAM 2's automatic mask generator.
#[derive(Debug)]
pub struct Sam2Segmenter {
    generator: MaskGenerator,
    info: ModelInfo,
}

impl Sam2Segmenter {
    /// Opens a checkpoint: a file or a folder, in the original format or in that of the Hub, of any
    /// size.
    ///
    /// # Errors
    /// Fails if the weights or the parameters cannot be used.
    pub fn open(
        path: &Path,
        settings: AmgSettings,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, Sam2Error> {
        let checkpoint = Sam2Checkpoint::open(path)?;
        let model = checkpoint.load(dtype, device)?;
        let size = checkpoint.size().map_or("custom", |size| size.name());
        // The same weights produce different masks with different parameters, or as another
        // network.
        let parameters = format!("{settings:?} {:?}", checkpoint.config());
        let digest = short(&hex::encode(Sha256::digest(parameters)));
        // The version names the parameter that costs most, so that it is readable in an event.
        let points = settings.points_per_side;
        let info = ModelInfo {
            name: format!("sam{}-{size}", checkpoint.version().name()),
            version: format!(
                "{VERSION}-{}-{}-points{points}-{digest}",
                kind_of(device),
                dtype.as_str()
            ),
            weights: WeightsFile::all_of(checkpoint.weights())?,
        };
        Ok(Self { generator: MaskGenerator::new(model, settings)?, info })
    }

    /// Returns the masks of one picture with all details of the generator, in its order.
    ///
    /// # Errors
    /// As [`Segmenter::prepare`] and [`Segmenter::segment`].
    pub fn find(&self, picture: &Picture) -> Result<Vec<GeneratedMask>, RunError> {
        let input = self.prepare(picture)?;
        Ok(self.find_batch(std::slice::from_ref(&input))?.into_iter().flatten().collect())
    }

    fn find_batch(&self, batch: &[PreparedImage]) -> Result<Vec<Vec<GeneratedMask>>, RunError> {
        self.generator.generate(batch).map_err(|error| match error {
            AmgError::Tensor(error) => run_error(&error),
            AmgError::NotNumbers { .. } => RunError::NotNumbers(error.to_string().into()),
            other => RunError::Batch(other.to_string().into()),
        })
    }
}

impl Segmenter for Sam2Segmenter {
    type Input = PreparedImage;

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn prepare(&self, picture: &Picture) -> Result<PreparedImage, RunError> {
        let size = self.generator.model().config().image_size;
        prepare(picture.pixels(), self.generator.settings(), size)
            .map_err(|error| RunError::Batch(error.to_string().into()))
    }

    /// Counts the pixels of all crops, as resized for the network.
    fn cost(input: &PreparedImage) -> usize {
        input.crops.elem_count() / 3
    }

    fn segment(&self, batch: &[PreparedImage]) -> Result<Vec<Vec<RawMask>>, RunError> {
        let raw = |found: GeneratedMask| {
            // Without filters the generator also returns masks without a pixel.
            let mask = Mask::new(found.rle).ok()?;
            let (iou, stability) = (found.predicted_iou, found.stability_score);
            Some(RawMask { mask, predicted_iou: Some(iou), stability_score: Some(stability) })
        };
        let found = self.find_batch(batch)?.into_iter();
        Ok(found.map(|masks| masks.into_iter().filter_map(raw).collect()).collect())
    }

    fn device(&self) -> &Device {
        self.generator.model().device()
    }

    fn shrink(&mut self) -> bool {
        self.generator.halve_memory()
    }
}
