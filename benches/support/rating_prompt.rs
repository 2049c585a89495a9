//! The rating prompt of the paper as tokens, and the arithmetic of one rating.

use std::path::Path;

use dog_iqa::method::{Standard, StandardForm};
use dog_iqa::models::mplug_owl3::{
    Config, Message, Prompt, RatedPart, RatingSettings, Tokenizer, rating_messages,
};

use crate::qwen2::tokenizer_json;

/// Returns the prompt of the scorer, with the published tokenizer.
pub(crate) fn paper_prompt() -> Prompt {
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    tokenised(&rating_messages(&standard, &RatingSettings::default(), RatedPart::Whole))
}

/// Tokenises a conversation.
pub(crate) fn tokenised(messages: &[Message]) -> Prompt {
    let tokenizer = Tokenizer::from_json(Path::new("tokenizer.json"), &tokenizer_json()).unwrap();
    Prompt::new(messages, &tokenizer).unwrap()
}

/// Arithmetic of one crop's rating in GFLOP. Counts matrix products only.
pub(crate) struct RatingGigaFlop {
    /// The whole prompt is computed for each crop.
    pub(crate) plain: f64,
    /// The image-independent prefix is computed once and reused.
    pub(crate) with_prefix: f64,
}

impl RatingGigaFlop {
    pub(crate) fn new(config: &Config, prompt: &Prompt) -> Self {
        let (vision, tokens) = (&config.vision_config, config.vision_config.tokens());
        let (wide, inner) = (vision.hidden_size, vision.intermediate_size);
        let layer = tokens * (4 * wide * wide + 2 * wide * inner) + 2 * tokens * tokens * wide;
        let (hidden, keys) = (config.hidden_size, config.num_key_value_heads * config.head_dim());
        let images = tokens * hidden * (wide + 2 * keys * config.hyper_layers.len());
        let views = prompt.image_starts.len();
        let shared = views * (layer * (vision.num_hidden_layers - 1) + images);
        let decoder = 2 * hidden * (hidden + keys) + 3 * hidden * config.intermediate_size;
        let (prompt_tokens, layers) = (prompt.ids.len(), config.num_hidden_layers);
        let tokens_after_image = prompt_tokens - prompt.image_starts[0] - 1;
        let plain = shared + prompt_tokens * layers * decoder;
        let with_prefix = shared + tokens_after_image * (layers - config.first_hyper()) * decoder;
        let giga_flop = |products: usize| 2e-9 * products as f64;
        Self { plain: giga_flop(plain), with_prefix: giga_flop(with_prefix) }
    }
}
