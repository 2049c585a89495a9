//! The prompt of a rating: an image, a question, and the beginning of the answer.
//!
//! There is no system's turn. The next word after the prompt is the rating.

use crate::models::mplug_owl3::{Tokenizer, TokenizerError};
use crate::models::qwen3_5_vl::levels::WORDS;
use crate::models::qwen3_5_vl::settings::{Question, Thinking, Wording};

/// The text before an image.
const BEFORE: &str = "<|im_start|>user\n<|vision_start|>";
/// Special tokens of the prompt.
const MARKS: [&str; 7] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<think>",
    "</think>",
];

/// A prompt in tokens, around its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Tokens before the image.
    pub before: Vec<u32>,
    /// Tokens behind the image.
    pub after: Vec<u32>,
}

impl Prompt {
    /// Tokenises a rating's prompt.
    ///
    /// # Errors
    /// Fails if the tokenizer does.
    pub fn new(
        question: Question,
        wording: Wording,
        thinking: Thinking,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TokenizerError> {
        let after = text_after(question, wording, thinking);
        Ok(Self { before: tokenizer.encode(BEFORE)?, after: tokenizer.encode(&after)? })
    }
}

/// Returns the text behind the image.
fn text_after(question: Question, wording: Wording, thinking: Thinking) -> String {
    let ask = match (question, wording) {
        (Question::Quality, Wording::Card) => "How would you rate the quality of this image?",
        (Question::Quality, Wording::Pyiqa | Wording::Toolkit) => {
            "Can you rate the quality of this picture?"
        }
        (Question::Aesthetics, Wording::Card | Wording::Pyiqa) => {
            "Can you rate the aesthetics of this picture?"
        }
        (Question::Aesthetics, Wording::Toolkit) => "How is the aesthetics of this image?",
    };
    let thoughts = match thinking {
        Thinking::Closed => "<think>\n\n</think>\n\n",
        Thinking::Open => "<think>\n",
    };
    // The authors' own scorer begins the answer with a blank, which makes another token.
    let blank = if wording == Wording::Toolkit { " " } else { "" };
    let subject = question.name();
    format!(
        "<|vision_end|>{ask}<|im_end|>\n<|im_start|>assistant\n{thoughts}{blank}The {subject} of \
         the image is"
    )
}

/// Returns the tokens of the rating's words, worst first.
///
/// # Errors
/// Fails if a word or a special mark is not one token: the tokenizer is another model's.
pub fn word_tokens(tokenizer: &Tokenizer) -> Result<[u32; 5], TokenizerError> {
    for mark in MARKS {
        tokenizer.token(mark)?;
    }
    let mut tokens = [0; 5];
    for (token, word) in tokens.iter_mut().zip(WORDS) {
        *token = tokenizer.token(&format!(" {word}"))?;
    }
    Ok(tokens)
}
