//! The wire contract, version 1: the messages of the three topics.
//!
//! ```text
//!  image-references ──► ImageReference          (bare JSON, or CloudEvents in either mode)
//!                   or  notifications           (events of object stores about their objects)
//!  image-quality    ◄── QualityEvent            (JSON with CloudEvents headers)
//!  dead letters     ◄── the unchanged record    (with a DeadLetterReason in its headers)
//! ```
//!
//! Messages are JSON in UTF-8. Unknown fields are ignored on input, and fields are only ever added
//! within a version. An optional field without a value is left out, and `null` is read as absent.
//! [`schema`] describes the same as JSON Schema and AsyncAPI.
//!
//! Imports go downwards: `schema` uses all messages; `notification` uses `reference`; `reference`
//! and `dead_letter` use `headers`; `error`, `limits`, `measure` and `metadata` are at the bottom.

pub mod cloudevent_headers;
pub mod dead_letter;
mod error;
mod headers;
mod limits;
mod mask_schema;
mod measure;
mod metadata;
pub mod notification;
pub mod quality_event;
mod rating;
pub mod reference;
pub mod schema;
mod trace;

pub use dead_letter::DeadLetterReason;
pub use headers::Headers;
pub use limits::SCHEMA_VERSION;
pub use measure::EventMeasure;
pub use metadata::Metadata;
pub use quality_event::{
    EngineProvenance, EventImage, EventParts, EventReference, EventScorer, EventVerdict,
    ObjectQuality, QualityEvent, ScoringServer, SegmentationSummary, Source, TimingsMs,
    WeightsDigest,
};
pub use rating::{EventAnswer, EventFurtherRating, Rating};
pub use reference::{ImageReference, ReferenceError};
pub use trace::TraceContext;
