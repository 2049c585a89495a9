//! Layers that the networks share. Each is correct everywhere in plain candle ops; where those lose
//! time on a CPU, an op of our own stands behind the same signature.
//!
//! ```text
//!  linear ── product, then epilogue (bias, GELU, residual in one pass)
//!  norm ──── LayerNorm over the channels
//!  attention ── windows of a map of tokens          attention_cpu ─ the same without copies
//!  panels, vector ── products and functions on the processor's own vectors     cpu ─ where they meet candle
//! ```

mod attention;
mod attention_cpu;
pub(super) mod cpu;
mod epilogue;
mod linear;
mod norm;
pub(super) mod panels;
mod pool;
#[cfg(test)]
pub(super) mod testing;
pub(super) mod vector;

pub use attention::{Windows, softmax_attention, windowed_attention};
pub use epilogue::{add_bias, add_bias_gelu, add_bias_residual, gelu_plain};
pub use linear::Linear;
pub use norm::LayerNorm;
pub use pool::max_pool_2x2;
