//! mPLUG-Owl3 in its own words: free answers, for people who want a reason.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Device};

use crate::engine::opened::{MplugOwl3Error, Opened};
use crate::imaging::Picture;
use crate::models::mplug_owl3::{END_OF_TEXT, Greedy, IM_END, IMAGE, Message, Prefix, Role};

/// A model that answers questions about pictures.
#[derive(Debug)]
pub struct MplugOwl3Talker {
    opened: Opened,
    /// Tokens that an answer ends with.
    ends: [u32; 2],
}

/// A question about a picture.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Instructions before it.
    pub system: Option<String>,
    /// The question. The picture stands before it, or where it says `<|image|>`.
    pub question: String,
    /// Whether enlarged parts of the picture are shown, too.
    pub cut: bool,
    /// Most tokens of the answer.
    pub tokens_max: usize,
}

impl Ask {
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

impl MplugOwl3Talker {
    /// Opens a checkpoint: a file, an index of shards, or the folder with it.
    ///
    /// # Errors
    /// Weights or a tokenizer that cannot be used.
    pub fn open(path: &Path, dtype: DType, device: &Device) -> Result<Self, MplugOwl3Error> {
        let opened = Opened::open(path, dtype, device)?;
        let ends = [opened.tokenizer.token(IM_END)?, opened.tokenizer.token(END_OF_TEXT)?];
        Ok(Self { opened, ends })
    }

    /// Answers a question about a picture. `hear` is told of each piece of text and may end it.
    ///
    /// # Errors
    /// A question with several placeholders, or too long for the network; logits that are no numbers;
    /// what candle and the tokenizer say.
    pub fn answer(
        &self,
        picture: &Picture,
        ask: &Ask,
        mut hear: impl FnMut(String) -> ControlFlow<()>,
    ) -> Result<(), MplugOwl3Error> {
        let Opened { model, tokenizer, .. } = &self.opened;
        let grid = ask.cut.then(|| self.opened.grid((picture.width(), picture.height())));
        let prompt = self.opened.prompt(&ask.messages(), grid)?;
        let embeds = model.encode(&self.opened.views(picture.pixels(), grid)?)?;
        let (caches, hidden) = Prefix::new(model, &prompt)?.resume(model, &embeds)?;
        let mut greedy = Greedy::new(model.decoder(), caches, hidden);
        let mut stream = tokenizer.stream();
        let left = model.config().max_position_embeddings - prompt.ids.len();
        for count in 1..=ask.tokens_max.min(left) {
            let token = greedy.likeliest(tokenizer.id_end())?[0];
            if self.ends.contains(&token) {
                break;
            }
            if let Some(text) = stream(token)?
                && hear(text).is_break()
            {
                break;
            }
            if count < ask.tokens_max {
                greedy.feed(&[token])?;
            }
        }
        Ok(())
    }
}
