//! A loaded mPLUG-Owl3 with its tokenizer, as the scorer and the chat use it.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use crate::checkpoints::{MplugOwl3Checkpoint, WeightsError};
use crate::engine::info::{ModelInfo, WeightsFile};
use crate::method::{LevelsError, fingerprint, short};
use crate::models::device::kind_of;
use crate::models::mplug_owl3::{
    DirectionError, Grid, IMAGE, Message, MplugOwl3, Prompt, RatingSettings, Tokenizer,
    TokenizerError, stack, views,
};

/// The reason why an mPLUG-Owl3 model did not open, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum MplugOwl3Error {
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The words of the quality direction cannot be used.
    #[error("direction: {0}")]
    Direction(#[from] DirectionError),
    /// A text contains the placeholder of another image.
    #[error("`{IMAGE}` stands for an image; it may be once in a question and nowhere else")]
    Placeholder,
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
    /// The prompt is longer than the network's context.
    #[error("the prompt has {tokens} tokens, the network reads at most {most}; shorten it")]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Maximum tokens of the network.
        most: usize,
    },
    /// The network's output is not a valid rating.
    #[error("the network's output is not a valid rating: {0}")]
    Rating(#[from] LevelsError),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A network and its tokenizer, from one checkpoint.
#[derive(Debug)]
pub(crate) struct LoadedMplugOwl3 {
    pub(crate) model: MplugOwl3,
    pub(crate) tokenizer: Tokenizer,
    checkpoint: MplugOwl3Checkpoint,
}

impl LoadedMplugOwl3 {
    /// Loads a checkpoint: a file, an index of shards, or a folder with either.
    pub(crate) fn load(path: &Path, dtype: DType, device: &Device) -> Result<Self, MplugOwl3Error> {
        let checkpoint = MplugOwl3Checkpoint::open(path)?;
        let tokenizer = checkpoint.tokenizer()?;
        tokenizer.check_marks()?;
        let (tokens, rows) = (tokenizer.id_end(), checkpoint.config().vocab_size);
        if tokens > rows {
            return Err(MplugOwl3Error::Vocabulary { tokens, rows });
        }
        Ok(Self { model: checkpoint.load(dtype, device)?, tokenizer, checkpoint })
    }

    /// Returns the grid of views for a picture of this size.
    pub(crate) fn grid(&self, size: (u32, u32)) -> Grid {
        Grid::choose(size.0, size.1, self.view_size())
    }

    /// Returns the views of a picture, `(views, 3, size, size)` u8.
    pub(crate) fn views(
        &self,
        rgb: &RgbImage,
        grid: Option<Grid>,
    ) -> Result<Tensor, candle_core::Error> {
        stack(&views(rgb, self.view_size(), grid))
    }

    /// Tokenizes a conversation about `images` images. Each placeholder is replaced by the text of
    /// the image's views.
    pub(crate) fn prompt(
        &self,
        messages: &[Message],
        images: usize,
        grid: Option<Grid>,
    ) -> Result<Prompt, MplugOwl3Error> {
        let placeholders = messages.iter().map(|message| message.text.matches(IMAGE).count());
        if placeholders.sum::<usize>() != images {
            return Err(MplugOwl3Error::Placeholder);
        }
        let image_text =
            grid.map_or_else(|| IMAGE.to_owned(), |grid| grid.text(self.model.generation()));
        let expanded: Vec<Message> = messages
            .iter()
            .map(|Message { role, text }| Message::new(*role, text.replace(IMAGE, &image_text)))
            .collect();
        let prompt = Prompt::new(&expanded, &self.tokenizer)?;
        let (tokens, most) = (prompt.ids.len(), self.model.config().max_position_embeddings);
        if tokens > most {
            return Err(MplugOwl3Error::TooLong { tokens, most });
        }
        Ok(prompt)
    }

    /// Returns name, version and weights. The version contains everything else that changes
    /// answers: the kind of device, the number format, and a digest of configuration, tokenizer and
    /// rating settings.
    pub(crate) fn info(
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
        Ok(ModelInfo {
            name: format!("mplug-owl3-{name}"),
            version: format!(
                "{version}-{}-{}-{}",
                kind_of(self.model.device()),
                self.model.dtype().as_str(),
                short(&digest)
            ),
            weights: WeightsFile::all_of(self.checkpoint.weights())?,
        })
    }

    fn view_size(&self) -> u32 {
        // Checked configurations have far smaller sizes.
        u32::try_from(self.model.config().vision_config.image_size).unwrap_or(u32::MAX)
    }
}
