//! Allow-listed, bounded reads from object stores, web servers and folders.
//!
//! ```text
//!            uri ─► stores ─┬─► cloud (+ connector)   s3: gs: az:   ─┐
//!   parse, allow-lists      ├─► web   (+ guard)       http(s):       ├─► body ─► etag, sha256
//!                           └─► roots                 file:         ─┘   counted
//!            ╰──────────────────── fetch: time, attempts ─────────────────────────────╯
//! ```
//!
//! Whoever can write a reference chooses what this process reads. So nothing is allowed unless the
//! [`Settings`] name it, and every fetch costs at most its budget of bytes, time and attempts.
//! [`Stores::fetch`] is the only way to an object, [`Stores::list`] the only way to names.

mod body;
mod cloud;
mod connector;
mod etag;
mod failure;
mod fetch;
mod guard;
mod http;
mod listing;
mod roots;
mod secret;
mod settings;
mod stores;
mod uri;
mod web;

pub use failure::{FetchError, FetchFault, Overrun};
pub use fetch::{FetchRequest, FetchedImage};
pub use listing::ListedObject;
pub use secret::Secret;
pub use settings::{AzureSettings, GcsSettings, S3Settings, Settings};
pub use stores::{Finding, StorageError, Stores};
pub use uri::{Scheme, UriFault, file_uri};
