//! Weight files: reading, fetching and writing them, and the networks that they hold.
//!
//! ```text
//!  "sam2.1-large", "owner/name", a path ─ hub ─► a file or folder ─ weights ─► named tensors
//!  named tensors ─ sam2, mplug_owl3, … ─► Config and VarBuilder ─► a network of `models`
//! ```
//! All I/O around weights is here: files, the network and the environment. It may import `models`,
//! which use no files. Inside, `hub`, `sam2`, `mplug_owl3`, `qwen3_5_vl` and `clip_iqa` import
//! `weights`, never each other; `scorer_checkpoint` is whichever of the last three the weights are
//! of. `quantize` writes the GGUF of an mPLUG-Owl3 or a Qwen3.5-VL;
//! `metrics` fetches the parameters of the hand-crafted metrics with the client of `hub`.

mod atomic_file;
mod clip_iqa;
mod companion_files;
pub mod hub;
pub mod metrics;
mod mplug_owl3;
mod quantize;
mod qwen3_5_vl;
mod sam2;
mod scorer_checkpoint;
mod weights;

pub use clip_iqa::ClipCheckpoint;
pub use mplug_owl3::MplugOwl3Checkpoint;
pub use quantize::{BlockFormat, QuantizeError};
pub use qwen3_5_vl::{Qwen3_5VlCheckpoint, TuningOf};
pub use sam2::{Sam2Checkpoint, Sam2Version};
pub use scorer_checkpoint::ScorerCheckpoint;
pub use weights::{Weights, WeightsError, sha256_of};
