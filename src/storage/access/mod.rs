//! Decides what may be read: the allow-lists for buckets, hosts and folders.
//!
//! Imports only the bottom of `storage`: `settings`, `uri` and `error`.

pub(crate) mod buckets;
pub(crate) mod hosts;
pub(crate) mod roots;
