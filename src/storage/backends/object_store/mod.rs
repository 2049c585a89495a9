//! `s3:`, `gs:` and `az:` references, read with the crate `object_store`.
//!
//! `bucket` reads, lists and classifies errors. `open_client` builds the client of a bucket from
//! the settings, the environment and a `shared_profile`, and keeps its credentials
//! (`kept_credentials`); `rotating_client` builds it again. `connector` is the HTTP transport
//! beneath it, `opaque_key` writes unusual keys into its requests, and `raw_client` sends those
//! that other clients would change. Imports what its parent may import, and `body` and
//! `http_client`.

mod bucket;
mod connector;
mod kept_credentials;
mod opaque_key;
mod open_client;
mod raw_client;
mod rotating_client;
mod shared_profile;

pub(crate) use bucket::{Bucket, ObjectRead};
pub(crate) use connector::Connector;
