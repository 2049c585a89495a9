//! All documents with their file names.

use serde_json::Value;

use crate::event::schema::asyncapi;
use crate::event::schema::examples;
use crate::event::schema::messages::{self, with_dialect};

/// Returns every document with its file name below `schemas/`.
pub fn documents() -> Vec<(String, Value)> {
    let schemas = [
        ("image-reference.schema.json", messages::image_reference()),
        ("quality-event.schema.json", messages::quality_event()),
        ("quality-event-headers.schema.json", with_dialect(messages::quality_event_headers())),
        ("dead-letter-headers.schema.json", with_dialect(messages::dead_letter_headers())),
        ("asyncapi.json", asyncapi::document()),
    ];
    let named = schemas.into_iter().map(|(name, document)| (name.to_owned(), document));
    named.chain(examples::all()).collect()
}
