//! SAM 2 and 2.1 for images: the masks of all objects.
//!
//! ```text
//!  pixels ─ processor ─► hiera ─► neck ─► image tokens, two finer maps           once per image
//!  points, boxes, masks ─ prompt_encoder ─► tokens ─┐
//!                        two_way (cross_attention) ◄┴─ image tokens              once per prompt
//!                        mask_decoder, upscale ─► mask logits, predicted IoU
//!  amg: a grid of points ─► masks, filtered, without duplicates
//! ```
//! `model` assembles the parts. Modules and tensors are named as in facebookresearch/sam2; maps
//! have their channels last. A network is built from a `VarBuilder`; `checkpoints` opens the file.
//!
//! This folder may import `device`, `kernels` and `layers`, and masks from `method`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions are within images and maps of at most 2^30 cells; sums end as f32"
)]

pub mod amg;
mod config;
mod cross_attention;
mod hiera;
mod image_encoder;
mod load;
mod mask_decoder;
mod model;
mod neck;
mod position;
mod processor;
mod prompt_encoder;
mod two_way;
mod upscale;

pub use crate::models::kernels::cross_attention::ImageTokens;
pub use config::{Config, DynamicMultimask, Size, TrunkConfig};
pub use hiera::{Block, Hiera, PatchEmbed};
pub use image_encoder::ImageEncoder;
pub use mask_decoder::{DecodedPrompts, MASKS, MaskDecoder};
pub use model::{EncodedImages, Prompts, Sam2};
pub use neck::Neck;
pub use position::{FourierPosition, resize_cubic, trunk_position};
pub use processor::preprocess;
pub use prompt_encoder::{PointLabel, PromptEncoder};
pub use two_way::{TwoWayState, TwoWayTransformer};
pub use upscale::{FineFeatures, Upscale, in_rows};
