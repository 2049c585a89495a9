//! Checkpoints of SAM 2 and 2.1, as published by facebookresearch/sam2 and by the Hub.
//!
//! This folder may import `weights`, and the network and its configuration from `models::sam2`.

mod checkpoint;
mod hub_names;

pub use checkpoint::{Sam2Checkpoint, Sam2Version};
