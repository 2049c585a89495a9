//! Free-text answers of mPLUG-Owl3 for `dogiqa ask`. Scoring generates no text.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Device};

use crate::engine::adapters::loaded_mplug_owl3::{LoadedMplugOwl3, MplugOwl3Error};
use crate::imaging::Picture;
use crate::models::mplug_owl3::{Greedy, IMAGE, Message, Prefix, Role};

/// A model that answers questions about pictures.
#[derive(Debug)]
pub struct MplugOwl3Chat {
    loaded: LoadedMplugOwl3,
    /// Tokens that end an answer.
    end_tokens: [u32; 2],
}

/// A question about a picture.
#[derive(Debug, Clone)]
pub struct ChatQuestion {
    /// System message before the question.
    pub system: Option<String>,
    /// Text of the question. `<|image|>` marks the position of the picture; without it, the picture
    /// comes first.
    pub question: String,
    /// True to show the model enlarged crops of the picture in addition to the whole.
    pub with_crops: bool,
    /// Maximum tokens of the answer.
    pub tokens_max: usize,
}

impl ChatQuestion {
    fn messages(&self) -> Vec<Message> {
        let question = if self.question.contains(IMAGE) {
            self.question.clone()
        } else {
            format!("{IMAGE}\n{}", self.question)
        };
        let system = self.system.as_deref().map(|text| Message::new(Role::System, text));
        let turns = [Message::new(Role::User, question), Message::new(Role::Assistant, "")];
        system.into_iter().chain(turns).collect()
    }
}

impl MplugOwl3Chat {
    /// Opens a checkpoint: a file, an index of shards, or a folder with either.
    ///
    /// # Errors
    /// Fails if the weights or the tokenizer cannot be used.
    pub fn open(path: &Path, dtype: DType, device: &Device) -> Result<Self, MplugOwl3Error> {
        let loaded = LoadedMplugOwl3::load(path, dtype, device)?;
        let end_tokens = loaded.tokenizer.end_tokens()?;
        Ok(Self { loaded, end_tokens })
    }

    /// Answers a question about a picture. Calls `on_text` with each piece of text; `Break` ends
    /// the answer early.
    ///
    /// # Errors
    /// Fails on a question with several placeholders or too many tokens, on logits that are not
    /// numbers, and on library errors.
    pub fn answer(
        &self,
        picture: &Picture,
        question: &ChatQuestion,
        mut on_text: impl FnMut(String) -> ControlFlow<()>,
    ) -> Result<(), MplugOwl3Error> {
        let LoadedMplugOwl3 { model, tokenizer, .. } = &self.loaded;
        let size = (picture.width(), picture.height());
        let grid = question.with_crops.then(|| self.loaded.grid(size));
        let prompt = self.loaded.prompt(&question.messages(), 1, grid)?;
        let embeds = model.encode(&self.loaded.views(picture.pixels(), grid)?)?;
        let (contexts, hidden) = Prefix::new(model, &prompt)?.resume(model, &embeds)?;
        let mut greedy = Greedy::new(model.decoder(), contexts, hidden);
        let mut stream = tokenizer.stream();
        let tokens_left = model.config().max_position_embeddings - prompt.ids.len();
        let tokens_max = question.tokens_max;
        for count in 1..=tokens_max.min(tokens_left) {
            let token = greedy.likeliest(tokenizer.id_end())?[0];
            if self.end_tokens.contains(&token) {
                break;
            }
            if let Some(text) = stream(token)?
                && on_text(text).is_break()
            {
                break;
            }
            if count < tokens_max {
                greedy.feed(&[token])?;
            }
        }
        Ok(())
    }
}
