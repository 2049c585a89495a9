//! Layers that the networks share, written in plain operations (`ops`) for every device and dtype.
//! Contiguous `f32` tensors on the CPU are passed to `kernels`, which compute the same faster, up
//! to rounding.
//!
//! ```text
//!  linear ── a product, then epilogue (bias, GELU, residual)         matrix ── packed or quantised
//!  norm ── LayerNorm          rms_norm, rotary, silu_gate ── parts of a language model
//!  attention ── in windows of a map of tokens          pool ── of a map of tokens
//!  grouped_attention ── query heads that share keys and values, and the rows visible to them
//!  sequences ── packed rows          causal_conv, delta_rule ── along the rows of each sequence
//!  samples ── functions of 8-bit samples          convolution ── of maps of tokens
//!  head_norm ── norms of the heads of a row, and gates          chunk_tables ── of delta_rule
//! ```
//! Layers import `ops`, `kernels` and each other, and depend on no network.

mod attention;
mod causal_conv;
mod chunk_tables;
mod convolution;
mod delta_rule;
mod epilogue;
mod grouped_attention;
mod head_norm;
mod linear;
mod matrix;
mod norm;
mod pool;
mod rms_norm;
mod rotary;
mod samples;
mod sequences;
mod silu_gate;
mod visibility;

pub use crate::models::kernels::{
    DeltaHeads, Epilogue, HeadLayout, PackedConvolution, PackedWeight, Stride, Windows,
};
pub use attention::{softmax_attention, windowed_attention};
pub use causal_conv::CausalConv;
pub use convolution::Convolution;
pub use delta_rule::delta_rule;
pub use epilogue::{
    add_bias, add_bias_gelu, add_bias_gelu_tanh, add_bias_residual, add_residual, gelu,
};
pub use grouped_attention::grouped_attention;
pub use head_norm::{HeadNorm, gated_norm, sigmoid_gate};
pub use linear::Linear;
pub use matrix::Matrix;
pub(crate) use matrix::quantised_rows;
pub use norm::LayerNorm;
pub use pool::{max_pool_2x2, mean_pool_2x2};
pub use rms_norm::RmsNorm;
pub use rotary::{Angles, Rotary};
pub use samples::map_samples;
pub use sequences::Sequences;
pub use silu_gate::silu_gate;
pub use visibility::Visibility;
