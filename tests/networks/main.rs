//! The networks at their published shapes, with random weights. They need a minute of all cores and
//! some gigabytes, so they have a separate binary, to keep them from slowing down tests with
//! deadlines.
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
