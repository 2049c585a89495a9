//! From a conversation to tokens: chunk by chunk, each tokenised on its own, so that nothing merges
//! across the border of a placeholder.

use super::settings::ImagePlace;
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::method::Standard;

/// The placeholder of a view in a text. For the tokenizer it is ordinary text of five tokens.
pub const IMAGE: &str = "<|image|>";

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions; only the first message.
    System,
    /// The one who asks.
    User,
    /// The model. A last message is what the answer begins with.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who.
    pub role: Role,
    /// What.
    pub text: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into() }
    }
}

/// A prompt as the decoder reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// All tokens.
    pub ids: Vec<u32>,
    /// For each view the index of the first token of its placeholder.
    pub image_starts: Vec<usize>,
}

impl Prompt {
    /// Tokenises a conversation.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn new(messages: &[Message], tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        let mut prompt = Self { ids: Vec::new(), image_starts: Vec::new() };
        for chunk in chunks(messages) {
            if chunk == IMAGE {
                prompt.image_starts.push(prompt.ids.len());
            }
            prompt.ids.extend(tokenizer.encode(&chunk)?);
        }
        Ok(prompt)
    }
}

/// The paper's question for a level of a standard. The system's turn, which has the standard, is the same
/// for all images.
pub fn rating_messages(standard: &Standard, place: ImagePlace) -> Vec<Message> {
    let question = standard.user_message();
    let question = match place {
        ImagePlace::First => format!("{IMAGE}\n{question}"),
        ImagePlace::Last => format!("{question}\n{IMAGE}"),
    };
    vec![
        Message::new(Role::System, standard.system_message()),
        Message::new(Role::User, question),
        Message::new(Role::Assistant, ""),
    ]
}

/// The texts that are tokenised on their own, in order.
///
/// Without a system message there is an empty one; the tokenizer's own template, which has a default, is
/// not used by the reference. An assistant's message at the end is left open, to be gone on with.
pub fn chunks(messages: &[Message]) -> Vec<String> {
    let mut chunks = Vec::new();
    if messages.first().is_none_or(|message| message.role != Role::System) {
        chunks.push("<|im_start|>system\n<|im_end|>".to_owned());
    }
    for (index, Message { role, text }) in messages.iter().enumerate() {
        match role {
            Role::System => chunks.push(format!("<|im_start|>system\n{text}<|im_end|>")),
            Role::User => split(&format!("\n<|im_start|>user\n{text}<|im_end|>"), &mut chunks),
            Role::Assistant => {
                chunks.push("\n<|im_start|>assistant\n".to_owned());
                if index + 1 < messages.len() {
                    chunks.push(format!("{text}<|im_end|>"));
                    chunks.push("<|endoftext|>".to_owned());
                } else if !text.is_empty() {
                    chunks.push(text.clone());
                }
            }
        }
    }
    chunks
}

/// Cuts at each placeholder, which is a chunk of its own; texts between two may be empty.
fn split(text: &str, chunks: &mut Vec<String>) {
    for (index, part) in text.split(IMAGE).enumerate() {
        if index > 0 {
            chunks.push(IMAGE.to_owned());
        }
        chunks.push(part.to_owned());
    }
}
