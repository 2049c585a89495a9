//! Weight files, read as named tensors.
//!
//! ```text
//!  path ─ checkpoint_files ─► file or index of shards ─ opened_weights ─► Weights ─► tensors
//!                                               Weights ─ var_builder ─► VarBuilder ─► network
//! ```
//! Safetensors files are mapped one tensor at a time. A `.pt` is a zip archive with a pickle: its
//! reader accepts tensors only, so nothing in the file is executed.
//!
//! This folder may import `atomic_file` and nothing else of the crate.

mod checkpoint_files;
mod digest;
mod error;
mod gguf_file;
mod opened_weights;
mod safetensors_file;
mod stand_in;
mod var_builder;

pub(crate) use checkpoint_files::{
    COMPANION_FILES, all_files_of, choose_weights_file, weights_file_of,
};
pub use digest::sha256_of;
pub(crate) use digest::{
    GIT_DIGITS, compute_digest, compute_sha256, digest_of_download, has_digest, hub_digest_of,
    is_digest, store_digest,
};
pub use error::WeightsError;
pub(crate) use gguf_file::{stored_dims, write_gguf};
pub use opened_weights::Weights;
pub(crate) use stand_in::read_text;
pub(crate) use var_builder::{NetworkTensors, StoredTensor};
