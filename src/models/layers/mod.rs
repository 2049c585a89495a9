//! Layers that the networks share. Each is correct everywhere in plain candle ops; where those lose
//! time on a CPU, an op of our own stands behind the same signature.
//!
//! ```text
//!  linear ── product, then epilogue (bias, GELU, residual in one pass)      matrix ─ packed or quantised
//!  norm ──── LayerNorm over the channels      rms_norm, rotary, gated ─ what a language model has
//!  attention ── windows of a map of tokens          attention_cpu ─ the same without copies
//!  grouped_attention ── heads that share keys, rows that see a part      grouped_attention_cpu
//!  attend, panels, vector ── products and functions on the processor's own vectors     cpu ─ where they meet candle
//! ```

mod attend;
mod attention;
mod attention_cpu;
pub(super) mod cpu;
mod epilogue;
mod gated;
mod grouped_attention;
mod grouped_attention_cpu;
mod linear;
mod matmul;
mod matrix;
mod norm;
mod packed;
pub(super) mod panels;
mod pool;
mod rms_norm;
mod rotary;
#[cfg(test)]
pub(super) mod testing;
pub(super) mod vector;

pub use attention::{Windows, softmax_attention, windowed_attention};
pub use epilogue::{
    add_bias, add_bias_gelu, add_bias_gelu_tanh, add_bias_residual, add_residual, gelu_plain,
};
pub use gated::silu_gate;
pub use grouped_attention::{Heads, Look, Seen, grouped_attention};
pub use linear::Linear;
pub(super) use matmul::matmul;
pub use matrix::Matrix;
pub use norm::LayerNorm;
pub use packed::Packed;
pub use pool::max_pool_2x2;
pub use rms_norm::RmsNorm;
pub use rotary::{Angles, Rotary};
