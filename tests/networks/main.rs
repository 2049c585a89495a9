//! The networks at their real shapes, with random weights: a minute of all cores and some gigabytes, in a
//! binary of its own so that no test that waits for something runs beside it.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../support/qwen2.rs"]
mod qwen2;
#[path = "../support/random_checkpoint.rs"]
mod random_checkpoint;
#[path = "../support/random_tensor.rs"]
mod random_tensor;
#[path = "../support/random_weights.rs"]
mod random_weights;

mod mplug_owl3;
mod sam2;
