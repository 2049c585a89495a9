//! Checkpoints of CLIP: with a ResNet as published by OpenCLIP, with a ViT as published on the
//! Hub.
//!
//! This folder may import `weights`, and the network and its configuration from `models::clip_iqa`.

mod checkpoint;

pub use checkpoint::ClipCheckpoint;
