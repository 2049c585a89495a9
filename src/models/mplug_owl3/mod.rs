//! mPLUG-Owl3: a language model that attends to images, in its three generations.
//!
//! ```text
//!  crop ─ processor ─► views ─ siglip, projector ─► image tokens ─┐
//!  standard ─ prompt, tokenizer ─► tokens ─ prefix (once) ────────┴► qwen2 ─► level_head ─► logits
//!                                          hyper_attention, kv_cache ┘     ├► direction ─► a score
//!                                                                          └► generate ─► words
//! ```
//! `crate::checkpoints` opens and writes the files. Modules and tensors have the names of the
//! checkpoints' own code.
//!
//! The network imports `layers`, `device`, `imaging` and `method`, and no trait of `engine`.

mod answer_text;
mod config;
mod direction;
mod generate;
mod hyper_attention;
mod kv_cache;
mod level_head;
mod model;
mod named_tensors;
mod next_token;
mod prefix;
mod processor;
mod projector;
mod prompt;
mod qwen2;
mod run_tables;
mod settings;
mod siglip;
mod tokenizer;

pub use answer_text::answer_text;
pub use config::{Config, Generation, Release, VisionConfig};
pub use direction::{Direction, DirectionError};
pub use generate::Greedy;
pub use hyper_attention::{Attended, Attention};
pub use kv_cache::KvCache;
pub use level_head::LevelHead;
pub use model::MplugOwl3;
pub use named_tensors::{QuantisedSource, Tensors};
pub use next_token::{NextToken, next_tokens};
pub use prefix::Prefix;
pub use processor::{Grid, normalise, stack, views};
pub use projector::Projector;
pub use prompt::{IMAGE, Message, Prompt, RatedPart, Role, chunks, rating_messages};
pub use qwen2::{Decoder, DecoderLayer};
pub use settings::{CropContext, ImagePosition, LevelSource, Poles, RatingSettings, Turns};
pub use siglip::VisionModel;
pub use tokenizer::{END_OF_TEXT, IM_END, Tokenizer, TokenizerError};
