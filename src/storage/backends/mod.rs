//! Reads bytes, one file per kind of location. `fetch` decides about retries.
//!
//! Imports `access` and the bottom of `storage`: `limits`, `settings`, `uri` and `error`.

pub(crate) mod body;
pub(crate) mod file;
mod http_client;
pub(crate) mod object_store;
pub(crate) mod web;
