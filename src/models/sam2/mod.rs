//! SAM 2 and 2.1 for images: what is there, as masks.
//!
//! ```text
//!  pixels ─ processor ─► hiera ─► neck ─► image tokens, two finer maps           once per image
//!  points, boxes, masks ─ prompt_encoder ─► tokens ─┐
//!                        two_way (cross_attention) ◄┴─ image tokens              once per prompt
//!                        mask_decoder, upscale ─► mask logits, predicted IoU
//!  amg: a grid of points ─► masks, filtered, without duplicates
//! ```
//! `model` holds the parts together. Modules and tensors are named as in facebookresearch/sam2; maps
//! have their channels last.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions lie within images and maps of at most 2^30 cells; sums are f32 at last"
)]

pub mod amg;
mod config;
mod cross_attention;
mod cross_attention_cpu;
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
mod upscale_cpu;

pub use config::{Config, DynamicMultimask, Size, TrunkConfig};
pub use hiera::{Block, Hiera, PatchEmbed};
pub use image_encoder::ImageEncoder;
pub use mask_decoder::{Answers, MASKS, MaskDecoder};
pub use model::{Encoded, Prompts, Sam2};
pub use neck::Neck;
pub use position::{FourierPosition, enlarge, trunk_position};
pub use processor::preprocess;
pub use prompt_encoder::{Label, PromptEncoder};
pub use two_way::{Exchange, ImageSide, TwoWayTransformer};
pub use upscale::{FineFeatures, Upscale, in_rows};
