//! mPLUG-Owl3 behind the scorer's trait: ratings from one forward pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::engine::failure::run_error;
use crate::engine::lane::RunError;
use crate::engine::opened::{MplugOwl3Error, Opened};
use crate::engine::traits::{ModelInfo, Scorer};
use crate::imaging::Crop;
use crate::method::{LevelDistribution, Standard};
use crate::models::ModelInput;
use crate::models::mplug_owl3::{
    Direction, Grid, ImagePosition, LevelHead, Message, Prefix, RatingSettings, rating_messages,
};

/// Raised whenever the same crop may get another rating with the same weights and settings.
const VERSION: &str = "1";

/// Rates crops on the levels of a standard: the probabilities of the level tokens after the prompt.
#[derive(Debug)]
pub struct MplugOwl3Scorer {
    opened: Opened,
    settings: RatingSettings,
    info: ModelInfo,
    levels: Question,
    head: LevelHead,
    second: Option<(Question, Direction)>,
}

/// A conversation about one image. What it owes to no image is read once for each way of cutting.
#[derive(Debug)]
struct Question {
    messages: Vec<Message>,
    prefixes: Mutex<BTreeMap<Option<Grid>, Arc<Prefix>>>,
}

impl MplugOwl3Scorer {
    /// Opens a checkpoint: a file, an index of shards, or the folder with it.
    ///
    /// # Errors
    /// Weights or a tokenizer that cannot be used; a standard that contains a placeholder, or that the
    /// network cannot read to its end.
    pub fn open(
        path: &Path,
        standard: &Standard,
        settings: RatingSettings,
        (dtype, device): (DType, &Device),
    ) -> Result<Self, MplugOwl3Error> {
        let opened = Opened::open(path, dtype, device)?;
        let (decoder, tokenizer) = (opened.model.decoder(), &opened.tokenizer);
        let levels = (1..=standard.k()).map(|level| tokenizer.token(&level.to_string()));
        let head = LevelHead::new(decoder, &levels.collect::<Result<Vec<_>, _>>()?)?;
        let second = if settings.direction {
            let direction = Direction::new(decoder, tokenizer, &settings.poles)?;
            Some((Question::new(Direction::messages()), direction))
        } else {
            None
        };
        let levels = Question::new(rating_messages(standard, settings.image));
        // What is wrong with a prompt is wrong with it for every image, so it is said now.
        let grids: Vec<Option<Grid>> =
            if settings.cut { Grid::ALL.map(Some).to_vec() } else { vec![None] };
        for question in std::iter::once(&levels).chain(second.as_ref().map(|(second, _)| second)) {
            for grid in &grids {
                opened.prompt(&question.messages, *grid)?;
            }
        }
        let cut = if settings.cut { "-cut" } else { "" };
        let last = if settings.image == ImagePosition::Last { "-image-last" } else { "" };
        let info = opened.info(&format!("{VERSION}{cut}{last}"), &settings)?;
        Ok(Self { opened, settings, info, levels, head, second })
    }

    fn grid(&self, size: (u32, u32)) -> Option<Grid> {
        self.settings.cut.then(|| self.opened.grid(size))
    }

    /// Rates inputs that are cut alike.
    fn rate_alike(
        &self,
        grid: Option<Grid>,
        inputs: &[&ModelInput],
    ) -> Result<Vec<LevelDistribution>, MplugOwl3Error> {
        let model = &self.opened.model;
        let views: Vec<&Tensor> = inputs.iter().map(|input| input.tensor()).collect();
        let embeds = model.encode(&Tensor::cat(&views, 0)?)?;
        let answer = |question: &Question| -> Result<Tensor, MplugOwl3Error> {
            Ok(question.prefix(grid, &self.opened)?.resume(model, &embeds)?.1)
        };
        let ratings = self.head.logits(&answer(&self.levels)?)?;
        let ratings = ratings.iter().map(|logits| LevelDistribution::from_logits(logits));
        let ratings = ratings.collect::<Result<Vec<_>, _>>()?;
        let Some((question, direction)) = &self.second else {
            return Ok(ratings);
        };
        let logits = model.decoder().logits(&answer(question)?)?.to_vec2::<f32>()?;
        let both = ratings.into_iter().zip(logits);
        let both = both.map(|(rating, logits)| rating.with_direction(direction.score(&logits)));
        Ok(both.collect::<Result<_, _>>()?)
    }
}

impl Question {
    fn new(messages: Vec<Message>) -> Self {
        Self { messages, prefixes: Mutex::default() }
    }

    fn prefix(&self, grid: Option<Grid>, opened: &Opened) -> Result<Arc<Prefix>, MplugOwl3Error> {
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prefix) = prefixes.get(&grid) {
            return Ok(Arc::clone(prefix));
        }
        let prompt = opened.prompt(&self.messages, grid)?;
        let prefix = Arc::new(Prefix::new(&opened.model, &prompt)?);
        prefixes.insert(grid, Arc::clone(&prefix));
        Ok(prefix)
    }
}

impl Scorer for MplugOwl3Scorer {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    /// Costs the pixels of all its views.
    fn prepare(&self, crop: &Crop) -> Result<ModelInput, RunError> {
        let size = crop.pixels.dimensions();
        let views = self.opened.views(&crop.pixels, self.grid(size));
        let views = views.map_err(|error| run_error(&error))?;
        let cost = views.elem_count() / 3;
        Ok(ModelInput::of_tensor(views, size, cost))
    }

    fn rate(&self, batch: &[ModelInput]) -> Result<Vec<LevelDistribution>, RunError> {
        let mut groups: BTreeMap<Option<Grid>, Vec<usize>> = BTreeMap::new();
        for (index, input) in batch.iter().enumerate() {
            groups.entry(self.grid(input.source_size())).or_default().push(index);
        }
        let mut ratings = vec![None; batch.len()];
        for (grid, members) in groups {
            let inputs: Vec<&ModelInput> = members.iter().map(|&index| &batch[index]).collect();
            let rated = self.rate_alike(grid, &inputs).map_err(|error| match error {
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
