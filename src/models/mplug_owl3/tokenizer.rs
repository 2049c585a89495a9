//! The checkpoint's tokenizer: Qwen2's, read by the `tokenizers` crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::Tokenizer as Tokens;

/// Start of a turn.
const IM_START: &str = "<|im_start|>";
/// End of a turn, and of an answer.
pub const IM_END: &str = "<|im_end|>";
/// End of a text.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// An error of the tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file holds no readable tokenizer.
    #[error("{path}: {message}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// A text that must be one token is not.
    #[error("`{text}` is not one token of this tokenizer; it is another model's")]
    NotOneToken {
        /// The text.
        text: String,
    },
    /// The library failed.
    #[error("tokenizer: {message}")]
    Encode {
        /// Its message.
        message: String,
    },
}

/// Converts texts to tokens and back. Clones share the vocabulary.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    tokens: Arc<Tokens>,
}

impl Tokenizer {
    /// Parses a `tokenizer.json`; the path is for messages.
    ///
    /// # Errors
    /// Fails if `json` is not a tokenizer.
    pub fn from_json(path: &Path, json: &[u8]) -> Result<Self, TokenizerError> {
        let mut tokens = Tokens::from_bytes(json).map_err(|error| TokenizerError::Open {
            path: path.to_owned(),
            message: format!("not a readable tokenizer: {error}; was the download complete?"),
        })?;
        // Prompts need neither, whatever the file was last used for.
        tokens.with_padding(None);
        tokens.with_truncation(None).map_err(failed)?;
        Ok(Self { tokens: Arc::new(tokens) })
    }

    /// Returns the tokens of a text; `<|im_start|>` and its like are one token each.
    ///
    /// # Errors
    /// Fails if the library does.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.tokens.encode_fast(text, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns the one token of a text.
    ///
    /// # Errors
    /// Fails unless the text is exactly one token.
    pub fn token(&self, text: &str) -> Result<u32, TokenizerError> {
        match self.encode(text)?[..] {
            [one] => Ok(one),
            _ => Err(TokenizerError::NotOneToken { text: text.to_owned() }),
        }
    }

    /// Returns the text of one token, a special one by its name. A token that the tokenizer does
    /// not know has none.
    ///
    /// # Errors
    /// Fails if the library does.
    pub fn text(&self, token: u32) -> Result<String, TokenizerError> {
        self.tokens.decode(&[token], false).map_err(failed)
    }

    /// Checks that the marks of a turn are one token each. A tokenizer without them would split
    /// them into letters, and the network would rate a text that it was never trained on.
    ///
    /// # Errors
    /// Fails with the first mark that is not one token.
    pub fn check_marks(&self) -> Result<(), TokenizerError> {
        [IM_START, IM_END].into_iter().try_for_each(|mark| self.token(mark).map(drop))
    }

    /// Returns the tokens that end an answer.
    ///
    /// # Errors
    /// Fails if one of them is not one token: the tokenizer is another model's.
    pub fn end_tokens(&self) -> Result<[u32; 2], TokenizerError> {
        Ok([self.token(IM_END)?, self.token(END_OF_TEXT)?])
    }

    /// Returns the largest token id + 1. An embedding may have more rows, which have no meaning.
    pub fn id_end(&self) -> usize {
        let last = self.tokens.get_vocab(true).into_values().max();
        last.map_or(0, |last| last as usize + 1)
    }

    /// Returns a function that decodes tokens one by one, and holds back incomplete characters.
    pub fn stream(&self) -> impl FnMut(u32) -> Result<Option<String>, TokenizerError> {
        let mut stream = self.tokens.decode_stream(true);
        move |token| stream.step(token).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Encode { message: error.to_string() }
}
