//! Checkpoints of Qwen3.5-VL: the base models, and Q-ReAlign.
//!
//! This folder may import `weights`, `companion_files` and `quantize`, and the network, its
//! configuration and its tokenizer from `models`.

mod checkpoint;

pub use checkpoint::{Qwen3_5VlCheckpoint, TuningOf};
