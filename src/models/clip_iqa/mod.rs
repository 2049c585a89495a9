//! CLIP-IQA: the likeness of an image to the better of two opposite prompts. It is not trained on
//! people's scores.
//!
//! ```text
//!  image ─ processor ─► pixels ─ resnet, attention_pool │ vit ─► features ─┐
//!  prompts ─► tokens ─ text (once) ─► features of each prompt ─────────────┴► quality_head, levels
//! ```
//! `crate::checkpoints` opens the files. The network with a ResNet has the tensor names of
//! OpenCLIP, that with a ViT those of the Hub's `CLIPModel`. `block` is the transformer block that
//! text and ViT share.
//!
//! The network imports `layers`, `device`, `imaging` and `method`, and the named tensors of
//! `mplug_owl3`.

mod attention_pool;
mod block;
mod config;
mod levels;
mod model;
mod processor;
mod prompts;
mod quality_head;
mod resnet;
mod settings;
mod text;
mod vit;

pub use config::{Config, ConfigHints, ResNetConfig, TextConfig, VisionConfig, VitConfig};
pub use levels::{score, spread};
pub use model::{Clip, ImageTower};
pub use processor::{SizeError, SizeLimits, fit, normalise};
pub use prompts::{ATTRIBUTES, Pairs, Prompt};
pub use quality_head::QualityHead;
pub use resnet::ModifiedResNet;
pub use settings::{ClipIqaSettings, PIXELS_MAX, PIXELS_MIN};
pub use text::TextTower;
pub use vit::VisionTransformer;
