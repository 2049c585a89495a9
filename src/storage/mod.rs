//! Reads images from object stores, web servers and local folders, within allow-lists and limits.
//!
//! ```text
//!         uri ─► access ─► backends ───────────────────────────────► body
//!                buckets   object_store (s3: gs: az:)                counted bytes,
//!                hosts     web          (http: https:, http_client)
//!                roots     file         (file:)
//!         ╰──────────────── fetch: attempts, time, sha256 ─────────────────────────╯
//! ```
//!
//! Anyone who can write a reference chooses what this process reads. So nothing is allowed unless
//! [`Settings`] name it, and every fetch is limited in bytes, time and attempts. [`Stores::fetch`]
//! is the only way to read an object, [`Stores::list`] the only way to list a bucket.
//!
//! Imports go downwards: `fetch`, `list` and `check` use `stores`, which uses `backends` and
//! `traffic`, the requests to each store with their `rate_limit`, and `key_rules`. `backends` use
//! `access` and `response_fault`, which maps an `error_response` to a fault. `limits`, `settings`,
//! `uri` and `error` are below all of them.

mod access;
mod backends;
mod check;
mod error;
mod error_response;
mod fetch;
mod key_rules;
mod limits;
mod list;
mod rate_limit;
mod response_fault;
mod settings;
mod stores;
mod traffic;
mod uri;

pub use crate::secret::Secret;
pub use check::Finding;
pub use error::{FetchError, StorageError, StoreFailure, StoreFault, UriFault};
pub use fetch::{FetchRequest, FetchedImage};
pub use key_rules::KeyVerdict;
pub use list::ListedObject;
pub use settings::{AzureSettings, GcsSettings, KeySettings, S3Settings, Settings};
pub use stores::Stores;
pub use traffic::Turn;
pub use uri::{Scheme, file_uri};
