//! Checkpoints of mPLUG-Owl3 in all three generations.
//!
//! This folder may import `weights`, `companion_files` and `quantize`, and the network, its
//! configuration and its tokenizer from `models::mplug_owl3`.

mod checkpoint;

pub use checkpoint::MplugOwl3Checkpoint;
