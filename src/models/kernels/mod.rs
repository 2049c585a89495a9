//! CPU kernels: operations on contiguous `f32` tensors, written with SIMD and spread
//! over all cores. They save the allocations, copies and extra passes of plain candle operations.
//!
//! ```text
//!  values ─ borrows a tensor's values                  row_op ─ one SIMD function for each row
//!  vector ─ SIMD functions on slices                   panels ─ small matrix products
//!  attention_block ─ softmax(q kᵀ) v for some queries
//!  windowed_attention, grouped_attention ─ whole attentions in such blocks
//!  packed_weight ─ products with a weight that is packed once
//!  epilogue, norm, head_norm, pool, rotary, silu_gate ─ row operations
//!  causal_conv, delta_scan ─ the two operations along the rows of a sequence
//!  convolution ─ of maps with their channels last
//!  cross_attention, upscale, enlargement ─ the heavy steps of SAM 2's mask decoder
//! ```
//! `layers` and `sam2` hold each operation's signature and plain form, and tests that both agree.
//!
//! Kernels import each other, and `ops` to recognise a dry run.

mod attention_block;
mod causal_conv;
mod convolution;
pub(crate) mod cross_attention;
mod delta_scan;
mod enlargement;
mod epilogue;
mod grouped_attention;
mod head_norm;
mod norm;
mod packed_weight;
mod panels;
mod pool;
mod rotary;
mod row_op;
mod silu_gate;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod upscale;
mod values;
pub(crate) mod vector;
mod windowed_attention;

pub(crate) use causal_conv::{TAPS, causal_conv};
pub use convolution::{Epilogue, PackedConvolution, Stride};
pub use delta_scan::DeltaHeads;
pub(crate) use delta_scan::delta_scan;
pub use enlargement::{MaskEnlargement, MaskMeasurements};
pub(crate) use epilogue::{
    add_bias, add_bias_gelu, add_bias_gelu_tanh, add_bias_residual, add_residual,
};
pub use grouped_attention::HeadLayout;
pub(crate) use grouped_attention::grouped_attention;
pub(crate) use head_norm::{gated_norm, head_norm, sigmoid_gate};
pub(crate) use norm::{layer_norm, rms_norm};
pub use packed_weight::PackedWeight;
pub(crate) use panels::{Panels, RowMajor, lanes, multiply, multiply_transposed, padded};
pub(crate) use pool::{max_pool_2x2, mean_pool_2x2};
pub(crate) use rotary::rotate;
pub(crate) use silu_gate::silu_gate;
pub(crate) use values::{Values, accepts};
pub use windowed_attention::Windows;
pub(crate) use windowed_attention::windowed_attention;
