//! Parses the notifications that object stores publish about their objects.
//!
//! `record` recognises the shape of a record and splits it into entries. `s3`, `gcs` and `azure`
//! parse one entry each, with `object_key` and `fields`; `entry`, `sequencer` and `input_format`
//! are their types. `object_count` bounds the entries of a record before it is parsed.
//!
//! The folder imports `reference`, and `headers`, `error`, `limits` and `trace` of its parent.

mod azure;
mod entry;
mod fields;
mod gcs;
mod input_format;
mod object_count;
mod object_key;
mod record;
mod s3;
mod sequencer;

pub use crate::event::limits::OBJECTS_MAX;
pub use entry::{CreatedObject, Entry, RecordEntry, SkipReason};
pub use input_format::InputFormat;
pub use object_count::count_objects;
pub use record::parse;
pub use sequencer::Sequencer;
