//! The text of an answer of one token, as the authors' program of Dog-IQA reads it.

use crate::models::mplug_owl3::tokenizer::{Tokenizer, TokenizerError};

/// The program's padding, which it removes from answers. For the tokenizer it is `!`.
const PADDING: u32 = 0;

/// Returns the text of the token without end tokens and padding, which have none.
///
/// # Errors
/// Fails if the tokenizer does, or if it is another model's.
pub fn answer_text(tokenizer: &Tokenizer, token: u32) -> Result<String, TokenizerError> {
    if token == PADDING || tokenizer.end_tokens()?.contains(&token) {
        return Ok(String::new());
    }
    tokenizer.text(token)
}
