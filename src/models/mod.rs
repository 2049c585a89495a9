//! The numeric models. They know no trait of ours: `engine` adapts them to `Segmenter` and `Scorer`.
//!
//! ```text
//!  Picture or Crop ── prepare (CPU threads) ──► input ── model (lane thread) ──► masks or levels
//! ```

pub mod classic;
pub mod device;
pub mod hub;
pub mod layers;
pub mod mplug_owl3;
pub mod sam2;
mod weights;

pub use weights::{Stored, Weights, WeightsError, sha256_of, write_gguf};
