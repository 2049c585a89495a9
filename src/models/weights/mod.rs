//! Files of weights, read as named tensors, and networks built from them.
//!
//! ```text
//!  path ─ locate ─► file, index of shards ─ open ─► Weights ─ load, quantised ─► Tensor, QTensor
//!                                            build ─► VarBuilder that knows what was asked for
//! ```
//! Safetensors are mapped, one tensor at a time. A `.pt` is a zip around a pickle: only tensors are read
//! from it, by a reader that knows no other objects; nothing in it is executed.

mod beside;
mod build;
mod digest;
mod error;
mod gguf;
mod locate;
mod mapped;
mod open;

pub use build::Stored;
pub use digest::sha256_of;
pub(crate) use digest::{GIT_DIGITS, given_digest, is_digest, sha256_anew};
pub use error::WeightsError;
pub use gguf::write_gguf;
pub(crate) use locate::{choose, file_of, parts_of};
pub use open::Weights;
