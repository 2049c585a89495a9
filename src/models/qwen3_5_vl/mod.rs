//! Qwen3.5-VL: a language model of linear and full layers that reads images, and its fine-tuned
//! form for image quality, Q-ReAlign.
//!
//! ```text
//!  image ─ processor ─► patches ─ vision, position ─► image tokens ─┐
//!  prompt, token_table ─► text tokens ──────────────────────────────┴► text ─► level_head ─► levels
//!                                        delta_net, attention, state ┘
//! ```
//! `crate::checkpoints` opens the files. Modules and tensors have the names of the reference's
//! code (`Qwen3_5ForConditionalGeneration`).
//!
//! The network imports `layers`, `device`, `imaging` and `method`, and the tokenizer and the named
//! tensors of `mplug_owl3`.

mod attention;
mod config;
mod delta_net;
mod level_head;
mod levels;
mod model;
mod position;
mod processor;
mod prompt;
mod run_tables;
mod settings;
mod state;
mod text;
mod token_table;
mod vision;

pub use attention::Attention;
pub use config::{Config, LayerType, RopeParameters, Size, TextConfig, VisionConfig};
pub use delta_net::DeltaNet;
pub use level_head::LevelHead;
pub use levels::{MAPPING, WORDS, probabilities, score, spread};
pub use model::{EncodedImage, Inputs, Part, Parts, Qwen3_5Vl};
pub use position::{Position, Taps, image_positions, patch_angles, text_positions, token_angles};
pub use processor::{
    AREA_MAX, Grid, Patches, RATIO_MAX, RatioError, SizeRule, cut, normalise, patches, target_size,
};
pub use prompt::{Prompt, word_tokens};
pub use run_tables::RunTables;
pub use settings::{QRealignSettings, Question, Questions, Thinking, Wording};
pub use state::{LayerState, State};
pub use text::{Decoder, DecoderLayer, Mixer, TokenTables};
pub use token_table::TokenTable;
pub use vision::{Merger, VisionBlock, VisionModel, VisionTables};
