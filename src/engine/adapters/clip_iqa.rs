//! CLIP-IQA as a [`Scorer`].

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Weak};

use candle_core::{DType, Device};
use image::RgbImage;

use crate::checkpoints::{ClipCheckpoint, WeightsError};
use crate::engine::adapters::pixel_identity::DistinctPictures;
use crate::engine::adapters::tensor_error::run_error;
use crate::engine::info::{ModelInfo, WeightsFile};
use crate::engine::lane::RunError;
use crate::engine::traits::Scorer;
use crate::imaging::Crop;
use crate::method::{
    Attribute, LevelDistribution, LevelsError, RawScore, Standard, fingerprint, short,
};
use crate::models::clip_iqa::{
    ATTRIBUTES, Clip, ClipIqaSettings, ImageTower, Prompt, QualityHead, SizeError, SizeLimits, fit,
    score, spread,
};
use crate::models::device::kind_of;

/// Increased whenever the rating of a crop may change with the same weights and settings.
const VERSION: &str = "1";

/// The reason why a CLIP did not open, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClipIqaError {
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The network does not have the tokens of the prompts.
    #[error(
        "the network has {rows} tokens, the prompts need {}; it is not a CLIP of OpenAI's \
         vocabulary",
        Prompt::vocabulary()
    )]
    Vocabulary {
        /// Rows of the table of tokens.
        rows: usize,
    },
    /// The network's output is not a valid rating.
    #[error("the network's output is not a valid rating: {0}")]
    Rating(#[from] LevelsError),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Rates crops by their likeness to the better of two opposite prompts.
#[derive(Debug)]
pub struct ClipIqaScorer {
    image: ImageTower,
    head: QualityHead,
    /// Of the pairs of [`ATTRIBUTES`], if they are asked for.
    attributes: Option<QualityHead>,
    settings: ClipIqaSettings,
    limits: SizeLimits,
    info: ModelInfo,
    levels: u8,
}

/// A crop as the scorer's network reads it.
#[derive(Debug, Clone)]
pub struct FittedCrop {
    /// Its pixels, resized only if the network cannot read the crop as it is.
    pub pixels: Arc<RgbImage>,
    /// Identity of the crop's pixels. Crops that share them are computed once in a batch.
    identity: Weak<RgbImage>,
}

impl ClipIqaScorer {
    /// Opens a checkpoint: a file, or a folder with one. The text tower runs here, and is dropped.
    ///
    /// # Errors
    /// Fails if the weights cannot be used.
    pub fn open(
        path: &Path,
        standard: &Standard,
        settings: ClipIqaSettings,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ClipIqaError> {
        let checkpoint = ClipCheckpoint::open(path)?;
        let rows = checkpoint.config().text.vocabulary;
        if rows < Prompt::vocabulary() {
            return Err(ClipIqaError::Vocabulary { rows });
        }
        let info = info(&checkpoint, settings, dtype, device)?;
        let Clip { image, text } = checkpoint.load(dtype, device)?;
        let head = |pairs: &mut dyn Iterator<Item = &[Prompt; 2]>| -> Result<_, ClipIqaError> {
            let features = text.rows(&pairs.flatten().map(Prompt::tokens).collect::<Vec<_>>())?;
            Ok(QualityHead::new(&features, checkpoint.logit_scale()))
        };
        let attributes = settings
            .attributes
            .then(|| head(&mut ATTRIBUTES.iter().map(|(_, pair)| pair)))
            .transpose()?;
        Ok(Self {
            limits: image.size_limits(settings.pixels_max),
            head: head(&mut settings.pairs.prompts().iter())?,
            attributes,
            image,
            settings,
            info,
            levels: standard.k(),
        })
    }

    fn rate_batch(&self, batch: &[FittedCrop]) -> Result<Vec<LevelDistribution>, ClipIqaError> {
        // Equal pictures are rated once. Pictures differ in size, so each is a run of its own.
        let distinct = DistinctPictures::of(batch, |input| &input.identity);
        let rated = distinct.pictures.iter().map(|input| self.rating(&input.pixels));
        let rated: Vec<LevelDistribution> = rated.collect::<Result<_, _>>()?;
        Ok(distinct.per_input(&rated))
    }

    fn rating(&self, rgb: &RgbImage) -> Result<LevelDistribution, ClipIqaError> {
        let feature = self.image.feature(rgb)?;
        let probabilities = self.head.probabilities(&feature);
        let levels = spread(&probabilities, self.levels)?;
        let mapping = self.settings.pairs.mapping();
        let rating = levels.with_raw(RawScore { value: score(&probabilities), mapping });
        let Some(attributes) = &self.attributes else { return Ok(rating) };
        let attributes = ATTRIBUTES
            .iter()
            .zip(attributes.probabilities(&feature))
            .map(|((name, _), probability)| Attribute { name, probability });
        Ok(rating.with_attributes(attributes.collect()))
    }
}

/// Returns name, version and weights. The version contains everything else that changes answers:
/// the kind of device, the number format, and a digest of the network's shape and the settings.
fn info(
    checkpoint: &ClipCheckpoint,
    settings: ClipIqaSettings,
    dtype: DType,
    device: &Device,
) -> Result<ModelInfo, ClipIqaError> {
    let shape = format!("{:?}", checkpoint.config());
    let settings = serde_json::to_string(&settings).expect("settings are plain values");
    let digest = fingerprint([&shape, &settings]);
    Ok(ModelInfo {
        name: format!("clip-iqa-{}", checkpoint.config().name()),
        version: format!("{VERSION}-{}-{}-{}", kind_of(device), dtype.as_str(), short(&digest)),
        weights: WeightsFile::all_of(checkpoint.weights())?,
    })
}

impl Scorer for ClipIqaScorer {
    type Input = FittedCrop;

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn prepare(&self, crop: &Crop) -> Result<FittedCrop, RunError> {
        let failed = |error: SizeError| RunError::Batch(error.to_string().into());
        let extended = crop.without_stripe(self.limits.ratio_max());
        let resized = fit(&extended, self.limits).map_err(failed)?;
        let pixels = match (resized, extended) {
            (Some(resized), _) => Arc::new(resized),
            (None, Cow::Owned(extended)) => Arc::new(extended),
            (None, Cow::Borrowed(_)) => Arc::clone(&crop.pixels),
        };
        Ok(FittedCrop { pixels, identity: Arc::downgrade(&crop.pixels) })
    }

    /// Counts the pixels that the network reads.
    fn cost(input: &FittedCrop) -> usize {
        input.pixels.width() as usize * input.pixels.height() as usize
    }

    fn rate(&self, batch: &[FittedCrop]) -> Result<Vec<LevelDistribution>, RunError> {
        self.rate_batch(batch).map_err(|error| match error {
            ClipIqaError::Tensor(error) => run_error(&error),
            ClipIqaError::Rating(_) => RunError::NotNumbers(error.to_string().into()),
            other => RunError::Batch(other.to_string().into()),
        })
    }

    fn device(&self) -> &Device {
        self.image.device()
    }
}
