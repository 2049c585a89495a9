//! Parses references out of records.
//!
//! `envelope` unpacks CloudEvents, `image_reference` parses the reference, `json` its fields. The
//! folder imports `headers`, `trace`, `error` and `limits` of its parent.

mod envelope;
mod image_reference;
mod json;

pub use crate::event::error::ReferenceError;
pub use crate::event::limits::{
    ETAG_CHARS_MAX, ID_CHARS_MAX, METADATA_BYTES_MAX, METADATA_VALUES_MAX, PAYLOAD_BYTES_MAX,
    POLICY_CHARS_MAX, URI_CHARS_MAX,
};
pub use image_reference::{ImageReference, parse};
