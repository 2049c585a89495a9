//! The wire contract, version 1: the messages of the topics.
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
//! and `dead_letter` use `headers`; `error`, `limits`, `measure`, `metadata` and `reason` are at
//! the bottom.

pub mod cloudevent_headers;
pub mod dead_letter;
mod engine_provenance;
mod error;
mod headers;
mod limits;
mod mask_schema;
mod measure;
mod metadata;
pub mod notification;
pub mod quality_event;
mod rating;
mod reason;
pub mod reference;
pub mod schema;
mod trace;

pub use dead_letter::DeadLetterReason;
pub use engine_provenance::{
    ClipIqaScoring, EngineProvenance, EventScorer, QRealignScoring, ScorerSettings, ScoringServer,
    WeightsDigest,
};
pub use headers::Headers;
pub use limits::{ID_CHARS_MAX, SCHEMA_VERSION};
pub use measure::EventMeasure;
pub use metadata::Metadata;
pub use quality_event::{
    DuplicateOf, EventImage, EventParts, EventReference, EventVerdict, ObjectQuality, QualityEvent,
    SegmentationSummary, Source, TimingsMs,
};
pub use rating::{EventAnswer, EventFurtherRating, Rating};
pub use reason::EventReason;
pub use reference::{ImageReference, ReferenceError};
pub use trace::TraceContext;
