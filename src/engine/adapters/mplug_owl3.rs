//! mPLUG-Owl3 as a [`Scorer`]: ratings from one forward pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::engine::adapters::loaded_mplug_owl3::{LoadedMplugOwl3, MplugOwl3Error};
use crate::engine::adapters::tensor_error::run_error;
use crate::engine::info::ModelInfo;
use crate::engine::lane::RunError;
use crate::engine::traits::Scorer;
use crate::imaging::Crop;
use crate::method::{LevelDistribution, Standard};
use crate::models::mplug_owl3::{
    Direction, Grid, ImagePosition, LevelHead, Message, Prefix, RatingSettings, rating_messages,
};

/// Increased whenever the rating of a crop may change with the same weights and settings.
const VERSION: &str = "1";

/// Rates crops on the levels of a standard, by the probabilities of the level tokens after the
/// prompt.
#[derive(Debug)]
pub struct MplugOwl3Scorer {
    loaded: LoadedMplugOwl3,
    settings: RatingSettings,
    info: ModelInfo,
    rating: Question,
    head: LevelHead,
    second_opinion: Option<SecondOpinion>,
}

/// A crop as the scorer's network reads it.
#[derive(Debug, Clone)]
pub struct CropViews {
    /// `(views, 3, size, size)` u8 on the CPU.
    pub views: Tensor,
    /// Grid of the views, or `None` if the whole crop is the only view.
    pub grid: Option<Grid>,
}

/// A conversation about one image, with its cached prefix for each grid of views.
#[derive(Debug)]
struct Question {
    messages: Vec<Message>,
    prefixes: Mutex<BTreeMap<Option<Grid>, Arc<Prefix>>>,
}

/// A second question, rated by the direction of the next word from bad to good quality.
#[derive(Debug)]
struct SecondOpinion {
    question: Question,
    direction: Direction,
}

impl MplugOwl3Scorer {
    /// Opens a checkpoint: a file, an index of shards, or a folder with either.
    ///
    /// # Errors
    /// Fails if the weights or the tokenizer cannot be used, or if a prompt of the standard
    /// contains a placeholder or exceeds the network's context.
    pub fn open(
        path: &Path,
        standard: &Standard,
        settings: RatingSettings,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, MplugOwl3Error> {
        let loaded = LoadedMplugOwl3::load(path, dtype, device)?;
        let (decoder, tokenizer) = (loaded.model.decoder(), &loaded.tokenizer);
        let level_tokens = (1..=standard.k()).map(|level| tokenizer.token(&level.to_string()));
        let head = LevelHead::new(decoder, &level_tokens.collect::<Result<Vec<_>, _>>()?)?;
        let second_opinion = if settings.direction {
            let direction = Direction::new(decoder, tokenizer, &settings.poles)?;
            let question = Question::new(Direction::messages());
            Some(SecondOpinion { question, direction })
        } else {
            None
        };
        let rating = Question::new(rating_messages(standard, settings.image));
        // An unusable prompt fails for every image, so every prompt is checked now.
        let grids: Vec<Option<Grid>> =
            if settings.cut { Grid::ALL.map(Some).to_vec() } else { vec![None] };
        let second_question = second_opinion.as_ref().map(|second| &second.question);
        for question in std::iter::once(&rating).chain(second_question) {
            for grid in &grids {
                loaded.prompt(&question.messages, *grid)?;
            }
        }
        let cut = if settings.cut { "-cut" } else { "" };
        let last = if settings.image == ImagePosition::Last { "-image-last" } else { "" };
        let info = loaded.info(&format!("{VERSION}{cut}{last}"), &settings)?;
        Ok(Self { loaded, settings, info, rating, head, second_opinion })
    }

    /// Rates inputs with the same grid.
    fn rate_group(
        &self,
        grid: Option<Grid>,
        inputs: &[&CropViews],
    ) -> Result<Vec<LevelDistribution>, MplugOwl3Error> {
        let model = &self.loaded.model;
        let views: Vec<&Tensor> = inputs.iter().map(|input| &input.views).collect();
        let embeds = model.encode(&Tensor::cat(&views, 0)?)?;
        let answer = |question: &Question| -> Result<Tensor, MplugOwl3Error> {
            Ok(question.prefix(grid, &self.loaded)?.resume(model, &embeds)?.1)
        };
        let ratings = self
            .head
            .logits(&answer(&self.rating)?)?
            .iter()
            .map(|logits| LevelDistribution::from_logits(logits))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(SecondOpinion { question, direction }) = &self.second_opinion else {
            return Ok(ratings);
        };
        let logits = model.decoder().logits(&answer(question)?)?.to_vec2::<f32>()?;
        let with_direction = ratings
            .into_iter()
            .zip(logits)
            .map(|(rating, logits)| rating.with_direction(direction.score(&logits)));
        Ok(with_direction.collect::<Result<_, _>>()?)
    }
}

impl Question {
    fn new(messages: Vec<Message>) -> Self {
        Self { messages, prefixes: Mutex::default() }
    }

    /// Returns the image-independent prefix of the prompt, computed on first use for each grid.
    fn prefix(
        &self,
        grid: Option<Grid>,
        loaded: &LoadedMplugOwl3,
    ) -> Result<Arc<Prefix>, MplugOwl3Error> {
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prefix) = prefixes.get(&grid) {
            return Ok(Arc::clone(prefix));
        }
        let prompt = loaded.prompt(&self.messages, grid)?;
        let prefix = Arc::new(Prefix::new(&loaded.model, &prompt)?);
        prefixes.insert(grid, Arc::clone(&prefix));
        Ok(prefix)
    }
}

impl Scorer for MplugOwl3Scorer {
    type Input = CropViews;

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn prepare(&self, crop: &Crop) -> Result<CropViews, RunError> {
        let grid = self.settings.cut.then(|| self.loaded.grid(crop.pixels.dimensions()));
        let views = self.loaded.views(&crop.pixels, grid).map_err(|error| run_error(&error))?;
        Ok(CropViews { views, grid })
    }

    /// Counts the pixels of all views.
    fn cost(input: &CropViews) -> usize {
        input.views.elem_count() / 3
    }

    fn rate(&self, batch: &[CropViews]) -> Result<Vec<LevelDistribution>, RunError> {
        let mut groups: BTreeMap<Option<Grid>, Vec<usize>> = BTreeMap::new();
        for (index, input) in batch.iter().enumerate() {
            groups.entry(input.grid).or_default().push(index);
        }
        let mut ratings = vec![None; batch.len()];
        for (grid, members) in groups {
            let inputs: Vec<&CropViews> = members.iter().map(|&index| &batch[index]).collect();
            let rated = self.rate_group(grid, &inputs).map_err(|error| match error {
                MplugOwl3Error::Tensor(error) => run_error(&error),
                other => RunError::Batch(other.to_string().into()),
            })?;
            for (index, rating) in members.into_iter().zip(rated) {
                ratings[index] = Some(rating);
            }
        }
        let each = ratings.into_iter();
        Ok(each.map(|rating| rating.expect("every input is in one group")).collect())
    }
}
