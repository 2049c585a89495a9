//! Makes text from outside safe to show: hides user info and queries of URIs, and removes control
//! characters.
//!
//! Every log line, error, dead letter and table that repeats a URI or a foreign message passes it
//! through here. One rule holds for all of them; when in doubt, it hides.
//!
//! This is the lowest module: it imports nothing of ours.

mod text;
mod uri;

pub(crate) use text::{excerpt, librdkafka_reason, printable};
pub(crate) use uri::{id, is_scheme, uri, uris_in};
