//! Makes untrusted text safe to show: hides user info and queries of URIs, and removes control
//! characters.
//!
//! Code that shows a URI or a foreign message in a log line, error, dead letter or table must
//! redact it here first. One rule applies everywhere; if in doubt, it hides.
//!
//! This is the lowest module: it imports no other module of this crate.

mod text;
mod uri;

pub(crate) use text::{excerpt, innermost, librdkafka_reason, printable, root_cause};
pub(crate) use uri::{id, is_scheme, uri, uris_in};
