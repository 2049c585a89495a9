//! The checkpoint's tokenizer: Qwen2's, through the `tokenizers` crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::Tokenizer as Tokens;

/// End of a turn: what an answer ends with.
pub const IM_END: &str = "<|im_end|>";
/// End of a text.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Why texts cannot be tokenised.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// No readable tokenizer.
    #[error("{path}: {message}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A text that must be one token is several.
    #[error("`{text}` is not one token of this tokenizer; it is another model's")]
    NotOneToken {
        /// The text.
        text: String,
    },
    /// What the library says.
    #[error("tokenizer: {message}")]
    Encode {
        /// Its message.
        message: String,
    },
}

/// Texts to tokens and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    tokens: Arc<Tokens>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; the path is for messages.
    ///
    /// # Errors
    /// A text that is none.
    pub fn from_json(path: &Path, json: &[u8]) -> Result<Self, TokenizerError> {
        let mut tokens = Tokens::from_bytes(json).map_err(|error| TokenizerError::Open {
            path: path.to_owned(),
            message: format!("no readable tokenizer: {error}; was the download complete?"),
        })?;
        // What the file was last used with is not how prompts are read.
        tokens.with_padding(None);
        tokens.with_truncation(None).map_err(failed)?;
        Ok(Self { tokens: Arc::new(tokens) })
    }

    /// The tokens of a text; `<|im_start|>` and its like are one token each.
    ///
    /// # Errors
    /// What the library says.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.tokens.encode_fast(text, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token that a text is.
    ///
    /// # Errors
    /// A text of several tokens.
    pub fn token(&self, text: &str) -> Result<u32, TokenizerError> {
        match self.encode(text)?[..] {
            [one] => Ok(one),
            _ => Err(TokenizerError::NotOneToken { text: text.to_owned() }),
        }
    }

    /// The number behind the last token's; an embedding may have more rows, which mean nothing.
    pub fn end(&self) -> usize {
        let last = self.tokens.get_vocab(true).into_values().max();
        last.map_or(0, |last| last as usize + 1)
    }

    /// Turns tokens to text one by one, holding back what is only a part of a character.
    pub fn stream(&self) -> impl FnMut(u32) -> Result<Option<String>, TokenizerError> {
        let mut stream = self.tokens.decode_stream(true);
        move |token| stream.step(token).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Encode { message: error.to_string() }
}
