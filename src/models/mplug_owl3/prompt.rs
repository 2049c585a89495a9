//! Conversations as tokens. Each chunk is tokenised separately, so that no token crosses the border
//! of a placeholder.

use crate::imaging::CropSource;
use crate::method::Standard;
use crate::models::mplug_owl3::settings::{CropContext, ImagePosition, RatingSettings, Turns};
use crate::models::mplug_owl3::tokenizer::{Tokenizer, TokenizerError};

/// The placeholder of a view in a text. For the tokenizer it is ordinary text of five tokens.
pub const IMAGE: &str = "<|image|>";

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions; only the first message.
    System,
    /// The user.
    User,
    /// The model. As the last message, the beginning of the answer.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The text, with an [`IMAGE`] for each view.
    pub text: String,
}

impl Message {
    /// Creates a message.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into() }
    }
}

/// A prompt in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// All tokens.
    pub ids: Vec<u32>,
    /// For each view, the index of the first token of its placeholder.
    pub image_starts: Vec<usize>,
}

impl Prompt {
    /// Tokenises a conversation.
    ///
    /// # Errors
    /// Fails if the tokenizer does.
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

/// The part of the picture that a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RatedPart {
    /// The whole picture.
    Whole,
    /// A region of it.
    Region,
    /// A region of it, shown after the whole picture.
    RegionInWhole,
}

impl RatedPart {
    /// Returns the part that a crop shows, as far as the prompt depends on it: only a prompt of the
    /// authors' program differs for regions, and one with the whole picture.
    pub fn of(source: CropSource, settings: &RatingSettings) -> Self {
        match (source, settings.crop_context, settings.turns) {
            (CropSource::Region(_), CropContext::Whole, _) => Self::RegionInWhole,
            (CropSource::Region(_), CropContext::None, Turns::UserOnly) => Self::Region,
            _ => Self::Whole,
        }
    }

    /// Returns the number of images in the prompt.
    pub fn images(self) -> usize {
        if self == Self::RegionInWhole { 2 } else { 1 }
    }

    /// Returns the indentation of image and question in the authors' program, in spaces. It comes
    /// from the depth of the code around their multi-line strings.
    fn indent(self) -> &'static str {
        match self {
            Self::Whole => "                    ",
            Self::Region | Self::RegionInWhole => "                        ",
        }
    }
}

/// Returns the question for a level of a standard. The text before the image is the same for all
/// images.
pub fn rating_messages(
    standard: &Standard,
    settings: &RatingSettings,
    part: RatedPart,
) -> Vec<Message> {
    let (system, question) = (standard.system_message(), standard.user_message());
    let answer = Message::new(Role::Assistant, "");
    if settings.turns == Turns::UserOnly {
        let indent = part.indent();
        let user = format!(" {system}\n{indent}{IMAGE}\n{indent}{question}");
        return vec![Message::new(Role::User, user), answer];
    }
    let image = match part {
        RatedPart::Whole | RatedPart::Region => IMAGE.to_owned(),
        RatedPart::RegionInWhole => format!(
            "The whole picture: {IMAGE}\nA part of it, which is the image to evaluate: {IMAGE}"
        ),
    };
    let user = match settings.image {
        ImagePosition::First => format!("{image}\n{question}"),
        ImagePosition::Last => format!("{question}\n{image}"),
    };
    vec![Message::new(Role::System, system), Message::new(Role::User, user), answer]
}

/// Splits a conversation into the texts that are tokenised separately, in order.
///
/// Without a system message an empty one is added: the reference does not use the tokenizer's
/// template, which has a default. A last message of the assistant is left open, so that generation
/// continues it.
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

/// Splits at each placeholder, which is a chunk itself. Texts between two of them may be empty.
fn split(text: &str, chunks: &mut Vec<String>) {
    for (index, part) in text.split(IMAGE).enumerate() {
        if index > 0 {
            chunks.push(IMAGE.to_owned());
        }
        chunks.push(part.to_owned());
    }
}
