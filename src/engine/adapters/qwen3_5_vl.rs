//! Qwen3.5-VL as a [`Scorer`]: Q-ReAlign, or a base model asked in the same words.

use std::path::Path;
use std::sync::{Arc, Weak};

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use crate::checkpoints::{Qwen3_5VlCheckpoint, TuningOf, WeightsError};
use crate::engine::adapters::pixel_identity::DistinctPictures;
use crate::engine::adapters::tensor_error::run_error;
use crate::engine::info::{ModelInfo, WeightsFile};
use crate::engine::lane::RunError;
use crate::engine::traits::Scorer;
use crate::imaging::Crop;
use crate::method::{
    FurtherRating, LevelDistribution, LevelsError, RawScore, Standard, fingerprint, short,
};
use crate::models::device::kind_of;
use crate::models::mplug_owl3::TokenizerError;
use crate::models::qwen3_5_vl::{
    EncodedImage, LevelHead, MAPPING, Part, Patches, Prompt, QRealignSettings, Question, Qwen3_5Vl,
    RATIO_MAX, State, patches, probabilities, score, spread, word_tokens,
};

/// Increased whenever the rating of a crop may change with the same weights and settings.
const VERSION: &str = "1";

/// The reason why a Qwen3.5-VL did not open, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Qwen3_5VlError {
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer has more tokens than the network.
    #[error(
        "the tokenizer has {tokens} tokens, the network {rows} rows for them; they are not of one \
         checkpoint"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The network's output is not a valid rating.
    #[error("the network's output is not a valid rating: {0}")]
    Rating(#[from] LevelsError),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Rates crops by the probabilities of five words after the prompt, spread over the levels of a
/// standard.
#[derive(Debug)]
pub struct Qwen3_5VlScorer {
    model: Qwen3_5Vl,
    settings: QRealignSettings,
    info: ModelInfo,
    /// The embedded prompt before the image, `(tokens, hidden)`; the same for all questions.
    before: Tensor,
    /// Each question, and the embedded prompt behind the image, `(tokens, hidden)`.
    questions: Vec<(Question, Tensor)>,
    head: LevelHead,
    levels: u8,
}

/// A crop as the scorer's network reads it.
#[derive(Debug, Clone)]
pub struct CropPatches {
    /// Its patches.
    pub patches: Patches,
    /// Identity of the crop's pixels. Crops that share them are computed once in a batch.
    pixels: Weak<RgbImage>,
}

impl Qwen3_5VlScorer {
    /// Opens a checkpoint: a file, an index of shards, or a folder with either.
    ///
    /// # Errors
    /// Fails if the weights or the tokenizer cannot be used.
    pub fn open(
        path: &Path,
        standard: &Standard,
        settings: QRealignSettings,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, Qwen3_5VlError> {
        let checkpoint = Qwen3_5VlCheckpoint::open(path)?;
        let tokenizer = checkpoint.tokenizer()?;
        let words = word_tokens(&tokenizer)?;
        let (tokens, rows) = (tokenizer.id_end(), checkpoint.config().text_config.vocab_size);
        if tokens > rows {
            return Err(Qwen3_5VlError::Vocabulary { tokens, rows });
        }
        let QRealignSettings { question, wording, thinking, .. } = settings;
        let prompts = question
            .all()
            .map(|question| Ok((question, Prompt::new(question, wording, thinking, &tokenizer)?)));
        let prompts = prompts.collect::<Result<Vec<_>, TokenizerError>>()?;
        let model = checkpoint.load(dtype, device)?;
        let info = info(&checkpoint, settings, &model)?;
        let decoder = model.decoder();
        let questions =
            prompts.iter().map(|(question, prompt)| Ok((*question, decoder.embed(&prompt.after)?)));
        Ok(Self {
            before: decoder.embed(&prompts[0].1.before)?,
            questions: questions.collect::<candle_core::Result<_>>()?,
            head: LevelHead::new(decoder, &words)?,
            levels: standard.k(),
            model,
            settings,
            info,
        })
    }

    fn rate_batch(&self, batch: &[CropPatches]) -> Result<Vec<LevelDistribution>, Qwen3_5VlError> {
        // Equal pictures are rated once.
        let distinct = DistinctPictures::of(batch, |input| &input.pixels);
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let patches: Vec<Patches> =
            distinct.pictures.iter().map(|input| input.patches.clone()).collect();
        let images = self.model.encode(&patches)?;
        let hidden = match &self.questions[..] {
            [(_, after)] => self.ask_one(&images, after)?,
            _ => self.ask_all(&images)?,
        };
        let logits = self.head.logits(&hidden)?;
        let rated = logits.chunks(self.questions.len()).map(|of_image| {
            let ratings = of_image.iter().map(|logits| self.rating(logits));
            let mut ratings = ratings.collect::<Result<Vec<_>, _>>()?;
            let further = ratings.drain(1..).zip(&self.questions[1..]);
            let further = further
                .map(|(rating, (question, _))| FurtherRating { question: question.name(), rating })
                .collect();
            Ok(ratings.swap_remove(0).with_further(further))
        });
        let rated: Vec<LevelDistribution> = rated.collect::<Result<_, LevelsError>>()?;
        Ok(distinct.per_input(&rated))
    }

    /// Reads the whole prompt of each image at once: `(images, hidden)`.
    fn ask_one(&self, images: &[EncodedImage], after: &Tensor) -> candle_core::Result<Tensor> {
        let prompts = images
            .iter()
            .map(|image| vec![Part::Text(&self.before), Part::Image(image), Part::Text(after)]);
        let prompts: Vec<Vec<Part<'_>>> = prompts.collect();
        let mut states = vec![self.model.decoder().empty_state(); prompts.len()];
        self.model.read(&prompts, &mut states)
    }

    /// Reads each image once, then every question from the state behind it: `(images · questions,
    /// hidden)`, all questions of the first image first.
    fn ask_all(&self, images: &[EncodedImage]) -> candle_core::Result<Tensor> {
        let prefixes: Vec<Vec<Part<'_>>> =
            images.iter().map(|image| vec![Part::Text(&self.before), Part::Image(image)]).collect();
        let mut states = vec![self.model.decoder().empty_state(); images.len()];
        self.model.read(&prefixes, &mut states)?;
        let questions = || self.questions.iter().map(|(_, after)| vec![Part::Text(after)]);
        let prompts: Vec<Vec<Part<'_>>> = images.iter().flat_map(|_| questions()).collect();
        let count = self.questions.len();
        let mut states: Vec<State> =
            states.into_iter().flat_map(|state| vec![state; count]).collect();
        self.model.read(&prompts, &mut states)
    }

    /// Returns the rating of the words' logits, worst first.
    fn rating(&self, logits: &[f64]) -> Result<LevelDistribution, LevelsError> {
        let mut of_words = [0.0; 5];
        of_words.copy_from_slice(logits);
        let probabilities = probabilities(&of_words)?;
        let raw = RawScore { value: score(&probabilities), mapping: MAPPING };
        Ok(spread(&probabilities, self.levels)?.with_raw(raw))
    }
}

/// Returns name, version and weights. The version contains everything else that changes answers:
/// the kind of device, the number format, and a digest of configuration, tokenizer and rating
/// settings.
fn info(
    checkpoint: &Qwen3_5VlCheckpoint,
    settings: QRealignSettings,
    model: &Qwen3_5Vl,
) -> Result<ModelInfo, Qwen3_5VlError> {
    let (_, tokenizer) = checkpoint.tokenizer_json()?;
    let settings = serde_json::to_string(&settings).expect("settings are plain texts");
    let digest = fingerprint([checkpoint.config_json(), &tokenizer, &settings]);
    let family = match checkpoint.tuning() {
        TuningOf::QReAlign => "q-realign",
        TuningOf::Base => "qwen3.5",
    };
    let size = checkpoint.config().size().map_or("custom", |size| size.name());
    Ok(ModelInfo {
        name: format!("{family}-{size}"),
        version: format!(
            "{VERSION}-{}-{}-{}",
            kind_of(model.device()),
            model.dtype().as_str(),
            short(&digest)
        ),
        weights: WeightsFile::all_of(checkpoint.weights())?,
    })
}

impl Scorer for Qwen3_5VlScorer {
    type Input = CropPatches;

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn prepare(&self, crop: &Crop) -> Result<CropPatches, RunError> {
        let QRealignSettings { sizes, pixels_max, .. } = self.settings;
        let patches = patches(&crop.without_stripe(RATIO_MAX), sizes, pixels_max)
            .map_err(|error| RunError::Batch(error.to_string().into()))?;
        Ok(CropPatches { patches, pixels: Arc::downgrade(&crop.pixels) })
    }

    /// Counts the pixels of the resized crop.
    fn cost(input: &CropPatches) -> usize {
        input.patches.samples.elem_count() / 3
    }

    fn rate(&self, batch: &[CropPatches]) -> Result<Vec<LevelDistribution>, RunError> {
        self.rate_batch(batch).map_err(|error| match error {
            Qwen3_5VlError::Tensor(error) => run_error(&error),
            Qwen3_5VlError::Rating(_) => RunError::NotNumbers(error.to_string().into()),
            other => RunError::Batch(other.to_string().into()),
        })
    }

    fn device(&self) -> &Device {
        self.model.device()
    }
}
