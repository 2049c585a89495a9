//! `s3:`, `gs:` and `az:` references, read with the crate `object_store`.
//!
//! `bucket` reads, lists and classifies errors; `clients` builds the client of a bucket;
//! `connector` is the HTTP transport beneath it. Imports what its parent may import, and `body` and
//! `http_client`.

mod bucket;
mod clients;
mod connector;

pub(crate) use bucket::Bucket;
pub(crate) use connector::Connector;
