//! mPLUG-Owl3 in its own words: free answers, for people who want a reason.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Device};

use crate::engine::mplug_owl3::MplugOwl3Error;
use crate::imaging::Picture;
use crate::models::mplug_owl3::{
    Checkpoint, END_OF_TEXT, Greedy, Grid, IM_END, IMAGE, Message, MplugOwl3, Prefix, Prompt, Role,
    Tokenizer, stack, views,
};

/// A model that answers questions about pictures.
#[derive(Debug)]
pub struct MplugOwl3Talker {
    model: MplugOwl3,
    tokenizer: Tokenizer,
    cut: bool,
}

impl MplugOwl3Talker {
    /// Opens a checkpoint: a file, an index of shards, or the folder with it.
    ///
    /// # Errors
    /// Weights or a tokenizer that cannot be used.
    pub fn open(path: &Path, (dtype, device): (DType, &Device)) -> Result<Self, MplugOwl3Error> {
        let checkpoint = Checkpoint::open(path)?;
        let tokenizer = checkpoint.tokenizer()?;
        Ok(Self { model: checkpoint.load(dtype, device)?, tokenizer, cut: false })
    }

    /// Whether enlarged parts of each picture are shown, too.
    #[must_use]
    pub fn with_cutting(mut self, cut: bool) -> Self {
        self.cut = cut;
        self
    }

    /// Answers a question about a picture with at most so many tokens. The picture stands before the
    /// question, or where it says `<|image|>`. `hear` is told of each piece of text and may end it.
    ///
    /// # Errors
    /// A question with several placeholders; what candle and the tokenizer say.
    pub fn answer(
        &self,
        picture: &Picture,
        system: Option<&str>,
        (question, most): (&str, usize),
        mut hear: impl FnMut(String) -> ControlFlow<()>,
    ) -> Result<(), MplugOwl3Error> {
        let config = self.model.config();
        let view = u32::try_from(config.vision_config.image_size).unwrap_or(u32::MAX);
        let grid = self.cut.then(|| Grid::choose((picture.width(), picture.height()), view));
        let shown =
            grid.map_or_else(|| IMAGE.to_owned(), |grid| grid.text(self.model.generation()));
        let placed = match question.matches(IMAGE).count() {
            0 => format!("{shown}\n{question}"),
            1 => question.replace(IMAGE, &shown),
            _ => return Err(MplugOwl3Error::Placeholder),
        };
        if system.is_some_and(|text| text.contains(IMAGE)) {
            return Err(MplugOwl3Error::Placeholder);
        }
        let system = system.map(|text| Message::new(Role::System, text));
        let turns = [Message::new(Role::User, placed), Message::new(Role::Assistant, "")];
        let messages: Vec<Message> = system.into_iter().chain(turns).collect();
        let prompt = Prompt::new(&messages, &self.tokenizer)?;
        let embeds = self.model.encode(&stack(&views(picture.pixels(), view, grid))?)?;
        let (contexts, hidden) = Prefix::new(&self.model, &prompt)?.go_on(&self.model, &embeds)?;
        let ends = [self.tokenizer.token(IM_END)?, self.tokenizer.token(END_OF_TEXT)?];
        let left = config.max_position_embeddings.saturating_sub(prompt.ids.len());
        let mut greedy = Greedy::new(self.model.decoder(), contexts, hidden);
        let mut stream = self.tokenizer.stream();
        for _ in 0..most.min(left) {
            let token = greedy.likeliest(self.tokenizer.len())?[0];
            if ends.contains(&token) {
                break;
            }
            if let Some(text) = stream(token)?
                && hear(text).is_break()
            {
                break;
            }
            greedy.feed(&[token])?;
        }
        Ok(())
    }
}
