//! Parses references out of records.
//!
//! `frame` removes what serializers put before JSON, `envelope` unpacks CloudEvents,
//! `image_reference` parses the reference, `json` its fields, and `mistaken_fields` finds misspelt
//! ones. The folder imports `headers`, `metadata`, `trace`, `error` and `limits` of its parent.

pub(crate) mod envelope;
pub(crate) mod frame;
pub(crate) mod image_reference;
pub(crate) mod json;
mod mistaken_fields;

pub use crate::event::error::ReferenceError;
pub use crate::event::limits::{
    ETAG_CHARS_MAX, ID_CHARS_MAX, METADATA_BYTES_MAX, METADATA_VALUES_MAX, PAYLOAD_BYTES_MAX,
    POLICY_CHARS_MAX, URI_CHARS_MAX, VERSION_ID_CHARS_MAX,
};
pub use image_reference::{ImageReference, parse};
