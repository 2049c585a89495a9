//! The numeric models. They know no trait of ours: `engine` adapts them to `Segmenter` and `Scorer`.
//!
//! ```text
//!  Picture or Crop ── prepare (CPU threads) ──► ModelInput ── model (lane thread) ──► masks or levels
//! ```

pub mod classic;
pub mod device;
mod input;
pub mod layers;
pub mod mplug_owl3;
pub mod sam2;

pub use input::ModelInput;
