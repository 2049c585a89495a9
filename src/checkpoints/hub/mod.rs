//! Models by name: presets, repositories of the Hugging Face Hub, and the cache on disk that is
//! shared with `huggingface_hub` and follows its environment variables.
//!
//! ```text
//!  "sam2.1-large", "owner/name@revision", a path ─ name ─► locate ─► file or folder ─► Weights
//!                     revision (files of a commit) ◄─ pull ─► download ─► cache
//! ```
//! Only [`pull`] uses the network: a worker that starts reads the disk and nothing else.
//!
//! This folder may import `weights`.

mod cache;
mod client;
mod download;
mod environment;
mod error;
mod fault;
mod free_space;
mod inventory;
mod locate;
mod name;
mod preset;
mod published;
mod pull;
mod revision;
mod verify;

pub(crate) use client::HubClient;
pub use download::{DownloadProgress, PullReport, PullScope};
pub(crate) use environment::Environment;
pub use error::HubError;
pub(crate) use fault::{FaultKind, RequestFault, retry};
pub use inventory::{CachedModel, cached_models};
pub use locate::{locate, snapshot};
pub use name::{HubModel, ModelName, hint_for_unknown};
pub use preset::{BUNDLES, ModelBundle, ModelPreset, PRESETS};
pub use pull::pull;
pub use verify::{CheckedFile, DigestSource, verify};
