//! mPLUG-Owl3 behind the scorer's trait: ratings from one forward pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::engine::lane::RunError;
use crate::engine::traits::{ModelInfo, Scorer, WeightsFile};
use crate::imaging::Crop;
use crate::method::{LevelDistribution, Standard};
use crate::models::mplug_owl3::{
    Checkpoint, Direction, DirectionError, Grid, IMAGE, LevelHead, Message, MplugOwl3, Prefix,
    Prompt, RatingSettings, Role, Tokenizer, TokenizerError, stack, views,
};
use crate::models::{ModelInput, WeightsError, sha256_of};

/// Raised whenever the same crop may get another rating with the same weights and settings.
const VERSION: &str = "1";

/// Why an mPLUG-Owl3 did not open as a scorer.
#[derive(Debug, thiserror::Error)]
pub enum MplugOwl3Error {
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The direction of words.
    #[error("direction: {0}")]
    Direction(#[from] DirectionError),
    /// A text that would be taken for the place of another image.
    #[error("`{IMAGE}` stands for an image; it may be once in a question and nowhere else")]
    Placeholder,
    /// A tokenizer that has more tokens than the network.
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
    /// What the tensor library says.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Rates crops on the levels of a standard: the probabilities of the level tokens after the prompt.
#[derive(Debug)]
pub struct MplugOwl3Scorer {
    model: MplugOwl3,
    tokenizer: Tokenizer,
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
    /// Weights or a tokenizer that cannot be used, or a standard that contains a placeholder.
    pub fn open(
        path: &Path,
        standard: &Standard,
        settings: RatingSettings,
        (dtype, device): (DType, &Device),
    ) -> Result<Self, MplugOwl3Error> {
        let checkpoint = Checkpoint::open(path)?;
        let tokenizer = checkpoint.tokenizer()?;
        let rows = checkpoint.config().vocab_size;
        if tokenizer.len() > rows {
            return Err(MplugOwl3Error::Vocabulary { tokens: tokenizer.len(), rows });
        }
        let texts = [standard.system_message(), standard.user_message()];
        if texts.iter().any(|text| text.contains(IMAGE)) {
            return Err(MplugOwl3Error::Placeholder);
        }
        let model = checkpoint.load(dtype, device)?;
        let levels = (1..=standard.k()).map(|level| tokenizer.token(&level.to_string()));
        let head = LevelHead::new(model.decoder(), &levels.collect::<Result<Vec<_>, _>>()?)?;
        let second = if settings.direction {
            let direction = Direction::new(model.decoder(), &tokenizer, &settings.poles)?;
            Some((Question::new(Direction::messages()), direction))
        } else {
            None
        };
        let info = info(&checkpoint)?;
        Ok(Self {
            levels: Question::about(standard),
            model,
            tokenizer,
            settings,
            info,
            head,
            second,
        })
    }

    fn view_size(&self) -> u32 {
        // A configuration's sizes are far below this.
        u32::try_from(self.model.config().vision_config.image_size).unwrap_or(u32::MAX)
    }

    fn grid(&self, size: (u32, u32)) -> Option<Grid> {
        self.settings.cut.then(|| Grid::choose(size, self.view_size()))
    }

    /// Rates inputs that are cut alike.
    fn rate_alike(
        &self,
        grid: Option<Grid>,
        inputs: &[&ModelInput],
    ) -> Result<Vec<LevelDistribution>, MplugOwl3Error> {
        let views: Vec<&Tensor> = inputs.iter().map(|input| input.tensor()).collect();
        let embeds = self.model.encode(&Tensor::cat(&views, 0)?)?;
        let answer = |question: &Question| -> Result<Tensor, MplugOwl3Error> {
            let prefix = question.prefix(grid, &self.model, &self.tokenizer)?;
            Ok(prefix.go_on(&self.model, &embeds)?.1)
        };
        let ratings = self.head.logits(&answer(&self.levels)?)?;
        let ratings = ratings.into_iter().map(|logits| {
            LevelDistribution::from_logits(&logits).map_err(|error| {
                MplugOwl3Error::Tensor(candle_core::Error::Msg(format!("the network's {error}")))
            })
        });
        let mut ratings = ratings.collect::<Result<Vec<_>, _>>()?;
        if let Some((question, direction)) = &self.second {
            let logits = self.model.decoder().logits(&answer(question)?)?.to_vec2::<f32>()?;
            let second = ratings.into_iter().zip(logits);
            ratings = second
                .map(|(rating, logits)| rating.with_direction(direction.score(&logits)))
                .collect();
        }
        Ok(ratings)
    }
}

impl Question {
    fn new(messages: Vec<Message>) -> Self {
        Self { messages, prefixes: Mutex::default() }
    }

    /// The paper's question, the image first, as the model is used to.
    fn about(standard: &Standard) -> Self {
        Self::new(vec![
            Message::new(Role::System, standard.system_message()),
            Message::new(Role::User, format!("{IMAGE}\n{}", standard.user_message())),
            Message::new(Role::Assistant, ""),
        ])
    }

    fn prefix(
        &self,
        grid: Option<Grid>,
        model: &MplugOwl3,
        tokenizer: &Tokenizer,
    ) -> Result<Arc<Prefix>, MplugOwl3Error> {
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prefix) = prefixes.get(&grid) {
            return Ok(Arc::clone(prefix));
        }
        let mut messages = self.messages.clone();
        if let Some(grid) = grid {
            let text = grid.text(model.generation());
            for message in &mut messages {
                message.text = message.text.replace(IMAGE, &text);
            }
        }
        let prefix = Arc::new(Prefix::new(model, &Prompt::new(&messages, tokenizer)?)?);
        prefixes.insert(grid, Arc::clone(&prefix));
        Ok(prefix)
    }
}

fn info(checkpoint: &Checkpoint) -> Result<ModelInfo, WeightsError> {
    let name = checkpoint.release().map_or_else(
        || format!("{}-custom", checkpoint.generation().name()),
        |release| release.name().to_owned(),
    );
    let file = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(WeightsFile { name, sha256: sha256_of(path)? })
    };
    let weights = checkpoint.weights().files().into_iter().map(file);
    Ok(ModelInfo {
        name: format!("mplug-owl3-{name}"),
        version: VERSION.to_owned(),
        weights: weights.collect::<Result<_, WeightsError>>()?,
    })
}

impl Scorer for MplugOwl3Scorer {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    /// Costs the pixels of all its views.
    fn prepare(&self, crop: &Crop) -> Result<ModelInput, RunError> {
        let size = crop.pixels.dimensions();
        let views = stack(&views(&crop.pixels, self.view_size(), self.grid(size)));
        let views = views.map_err(|error| RunError::Batch(error.to_string().into()))?;
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
            let rated = self
                .rate_alike(grid, &inputs)
                .map_err(|error| RunError::Batch(error.to_string().into()))?;
            for (index, rating) in members.into_iter().zip(rated) {
                ratings[index] = Some(rating);
            }
        }
        Ok(ratings.into_iter().flatten().collect())
    }
}
