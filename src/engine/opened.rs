//! An mPLUG-Owl3 with its tokenizer: what rating and talking have in common.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use crate::checkpoints::{MplugOwl3Checkpoint, WeightsError};
use crate::engine::traits::{ModelInfo, WeightsFile};
use crate::method::{LevelsError, fingerprint, short};
use crate::models::device::kind_of;
use crate::models::mplug_owl3::{
    DirectionError, Grid, IMAGE, Message, MplugOwl3, Prompt, RatingSettings, Tokenizer,
    TokenizerError, stack, views,
};

/// Why an mPLUG-Owl3 did not open, or has no answer.
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
    /// A prompt longer than the network's positions.
    #[error("the prompt has {tokens} tokens, the network reads at most {most}; shorten it")]
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The network's limit.
        most: usize,
    },
    /// A rating that is none.
    #[error("the network's answer is no rating: {0}")]
    Rating(#[from] LevelsError),
    /// What the tensor library says.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A network and its tokenizer, of one checkpoint.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) model: MplugOwl3,
    pub(super) tokenizer: Tokenizer,
    pub(super) checkpoint: MplugOwl3Checkpoint,
}

impl Opened {
    /// Opens a checkpoint: a file, an index of shards, or the folder with it.
    pub(super) fn open(path: &Path, dtype: DType, device: &Device) -> Result<Self, MplugOwl3Error> {
        let checkpoint = MplugOwl3Checkpoint::open(path)?;
        let tokenizer = checkpoint.tokenizer()?;
        let (tokens, rows) = (tokenizer.id_end(), checkpoint.config().vocab_size);
        if tokens > rows {
            return Err(MplugOwl3Error::Vocabulary { tokens, rows });
        }
        Ok(Self { model: checkpoint.load(dtype, device)?, tokenizer, checkpoint })
    }

    /// How a picture of this size is cut.
    pub(super) fn grid(&self, size: (u32, u32)) -> Grid {
        Grid::choose(size.0, size.1, self.view_size())
    }

    /// The views of a picture, `(views, 3, size, size)` u8.
    pub(super) fn views(
        &self,
        rgb: &RgbImage,
        grid: Option<Grid>,
    ) -> Result<Tensor, candle_core::Error> {
        stack(&views(rgb, self.view_size(), grid))
    }

    /// A conversation about one image in tokens, with the text of its views in the image's place.
    pub(super) fn prompt(
        &self,
        messages: &[Message],
        grid: Option<Grid>,
    ) -> Result<Prompt, MplugOwl3Error> {
        if messages.iter().map(|message| message.text.matches(IMAGE).count()).sum::<usize>() != 1 {
            return Err(MplugOwl3Error::Placeholder);
        }
        let shown =
            grid.map_or_else(|| IMAGE.to_owned(), |grid| grid.text(self.model.generation()));
        let messages: Vec<Message> = messages
            .iter()
            .map(|Message { role, text }| Message::new(*role, text.replace(IMAGE, &shown)))
            .collect();
        let prompt = Prompt::new(&messages, &self.tokenizer)?;
        let (tokens, most) = (prompt.ids.len(), self.model.config().max_position_embeddings);
        if tokens > most {
            return Err(MplugOwl3Error::TooLong { tokens, most });
        }
        Ok(prompt)
    }

    /// Name and weights; in the version stands what else changes its answers: the number format, and a
    /// digest of the configuration, the tokenizer and how it is asked.
    pub(super) fn info(
        &self,
        version: &str,
        settings: &RatingSettings,
    ) -> Result<ModelInfo, MplugOwl3Error> {
        let (_, tokenizer) = self.checkpoint.tokenizer_json()?;
        let settings = serde_json::to_string(settings).expect("settings are plain texts");
        let digest = fingerprint([self.checkpoint.config_json(), &tokenizer, &settings]);
        let name = self.checkpoint.release().map_or_else(
            || format!("{}-custom", self.checkpoint.generation().name()),
            |release| release.name().to_owned(),
        );
        let weights = self.checkpoint.weights().files().into_iter().map(WeightsFile::of);
        Ok(ModelInfo {
            name: format!("mplug-owl3-{name}"),
            version: format!(
                "{version}-{}-{}-{}",
                kind_of(self.model.device()),
                self.model.dtype().as_str(),
                short(&digest)
            ),
            weights: weights.collect::<Result<_, WeightsError>>()?,
        })
    }

    fn view_size(&self) -> u32 {
        // A configuration's sizes are far below this.
        u32::try_from(self.model.config().vision_config.image_size).unwrap_or(u32::MAX)
    }
}
