//! The wire contract as documents: JSON Schema 2020-12 for the messages, AsyncAPI 3 for the topics,
//! and examples. The folder `schemas/` of the repository holds them as files.
//!
//! `documents` collects them; `asyncapi` uses `messages` and `examples`. The folder may import
//! everything of its parent.

mod asyncapi;
mod documents;
mod examples;
mod messages;

pub use documents::documents;
