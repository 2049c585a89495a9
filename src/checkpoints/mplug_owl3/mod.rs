//! Checkpoints of mPLUG-Owl3 in all three generations, and their quantised GGUF files.
//!
//! This folder may import `weights`, and the network, its configuration and its tokenizer from
//! `models::mplug_owl3`.

mod checkpoint;
mod quantize;

pub use checkpoint::MplugOwl3Checkpoint;
pub use quantize::{BlockFormat, QuantizeError, quantize};
