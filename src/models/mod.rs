//! The numeric models, as pure functions of tensors. They use no file, network, environment, clock
//! or trait of `engine`. `checkpoints` builds their networks, `engine` adapts them to its traits.
//!
//! ```text
//!  Picture or Crop ── prepare (CPU threads) ──► input ── model (lane thread) ──► masks or levels
//! ```
//! A function that returns `candle_core::Result` fails if candle cannot do an operation: on
//! mismatched shapes, dtypes or devices, or if the device runs out of memory.

pub mod classic;
pub mod clip_iqa;
pub mod device;
mod kernels;
pub mod layers;
pub mod mplug_owl3;
mod ops;
pub mod qwen3_5_vl;
pub mod sam2;
