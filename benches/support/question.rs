//! The paper's question in tokens, and what the shapes of a network make of it.

use std::path::Path;

use dog_iqa::method::{Standard, StandardForm};
use dog_iqa::models::mplug_owl3::{Config, ImagePosition, Prompt, Tokenizer, rating_messages};

use crate::qwen2::tokenizer_json;

/// The question as the scorer asks it, in real tokens.
pub(crate) fn paper_prompt() -> Prompt {
    let tokenizer = Tokenizer::from_json(Path::new("tokenizer.json"), &tokenizer_json()).unwrap();
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    Prompt::new(&rating_messages(&standard, ImagePosition::First), &tokenizer).unwrap()
}

/// GFLOP of one crop's rating, counting products only: of the whole prompt, and with what owes nothing to the
/// image read before.
pub(crate) fn giga_flop(config: &Config, prompt: &Prompt) -> [f64; 2] {
    let (vision, tokens) = (&config.vision_config, config.vision_config.tokens());
    let (wide, inner) = (vision.hidden_size, vision.intermediate_size);
    let layer = tokens * (4 * wide * wide + 2 * wide * inner) + 2 * tokens * tokens * wide;
    let (hidden, keys) = (config.hidden_size, config.num_key_value_heads * config.head_dim());
    let images = tokens * hidden * (wide + 2 * keys * config.hyper_layers.len());
    let shared = layer * (vision.num_hidden_layers - 1) + images;
    let decoder = 2 * hidden * (hidden + keys) + 3 * hidden * config.intermediate_size;
    let (all, layers) = (prompt.ids.len(), config.num_hidden_layers);
    let seeing = all - prompt.image_starts[0] - 1;
    let plain = shared + all * layers * decoder;
    let prefix = shared + seeing * (layers - config.first_hyper()) * decoder;
    [plain, prefix].map(|products| 2e-9 * products as f64)
}
