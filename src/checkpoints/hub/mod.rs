//! Models by name: presets, repositories of the Hugging Face Hub, and the cache on disk that other programs
//! share (`huggingface_hub`'s, with its variables).
//!
//! ```text
//!  "sam2.1-large", "owner/name@revision", a path ─ ModelName ─► locate ─► file or folder ─► Weights
//!                                                     └─ pull ─► download ─► cache (digests are the Hub's)
//! ```
//! Nothing is fetched unless [`pull`] is called: a worker that starts reads the disk, not the network.

mod cache;
mod download;
mod environment;
mod error;
mod name;
mod preset;
mod pull;

pub use cache::{CheckedFile, locate, snapshot, verify};
pub use error::HubError;
pub use name::{HubModel, ModelName};
pub use preset::{BUNDLES, ModelBundle, ModelPreset, PRESETS};
pub use pull::{DownloadProgress, pull};
