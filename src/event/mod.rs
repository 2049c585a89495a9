//! The wire contract, version 1: what comes in, what goes out, and what comes back unread.
//!
//! ```text
//!  image-references ──► ImageReference          (bare JSON, or CloudEvents in either mode)
//!  image-quality    ◄── QualityEvent            (JSON with CloudEvents headers)
//!  dead letters     ◄── the record as it came   (with a DeadLetterReason in its headers)
//! ```
//!
//! JSON in UTF-8. Unknown fields are ignored on input, and fields are only ever added within a
//! version; an optional field without a value is left out, and `null` is read as absent.
//! [`schema`] writes the same down as JSON Schema and AsyncAPI.

mod asyncapi;
pub mod cloudevents;
pub mod dead_letter;
mod examples;
mod headers;
pub mod quality_event;
pub mod reference;
pub mod schema;
mod trace;

pub use dead_letter::DeadLetterReason;
pub use headers::Headers;
pub use quality_event::{
    EngineProvenance, EventImage, EventParts, EventReference, EventVerdict, ObjectQuality,
    QualityEvent, Rating, SegmentationSummary, Source, TimingsMs, WeightsDigest,
};
pub use reference::{ImageReference, ReferenceError};
pub use trace::TraceContext;

/// Version of the contract; in every event as `schema_version`.
pub const SCHEMA_VERSION: u32 = 1;
