//! The wire contract as documents: JSON Schema 2020-12 for the three messages, an AsyncAPI 3
//! document for the three topics, and example messages. `schemas/` holds them as files.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::cloudevents::QUALITY_EVENT_TYPE;
use super::quality_event::QualityEvent;
use super::reference::ImageReference;
use super::{asyncapi, dead_letter, examples};

/// Every document with its file's name below `schemas/`.
pub fn documents() -> Vec<(String, Value)> {
    let schemas = [
        ("image-reference.schema.json", image_reference()),
        ("quality-event.schema.json", quality_event()),
        ("quality-event-headers.schema.json", with_dialect(quality_event_headers())),
        ("dead-letter-headers.schema.json", with_dialect(dead_letter_headers())),
        ("asyncapi.json", asyncapi::document()),
    ];
    let named = schemas.into_iter().map(|(name, document)| (name.to_owned(), document));
    named.chain(examples::all()).collect()
}

/// What a reference may look like when it is read.
fn image_reference() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<ImageReference>().to_value()
}

/// What an event looks like when it is written.
fn quality_event() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    generator.into_root_schema_for::<QualityEvent>().to_value()
}

/// The headers of a quality event; values are UTF-8 text.
pub(super) fn quality_event_headers() -> Value {
    headers(
        "QualityEventHeaders",
        "The event as a CloudEvent 1.0 in Kafka's binary mode, with the trace of its reference.",
        &[
            ("ce_specversion", json!({ "type": "string", "const": "1.0" })),
            ("ce_id", text("The event's id, as in its `event_id`.", "")),
            ("ce_source", text("Which engine of this service wrote it.", "^/dogiqa/")),
            ("ce_type", json!({ "type": "string", "const": QUALITY_EVENT_TYPE })),
            ("ce_time", text("The event's time, as in its `event_time`.", "Z$")),
            ("content-type", json!({ "type": "string", "const": "application/json" })),
        ],
        &[
            ("traceparent", text("W3C trace context.", TRACEPARENT)),
            ("tracestate", text("W3C trace state, as the reference had it.", "")),
        ],
    )
}

/// The headers of a dead letter; values are UTF-8 text.
pub(super) fn dead_letter_headers() -> Value {
    const NUMBER: &str = "^-?[0-9]+$";
    let message = json!({
        "type": "string",
        "maxLength": dead_letter::MESSAGE_BYTES_MAX,
        "description": "What happened, for a person; URIs in it have no query."
    });
    headers(
        "DeadLetterHeaders",
        "Why a record could not be answered. Key, value and the record's own headers are as they \
         came.",
        &[
            (dead_letter::CODE, text("Stable name of the error.", "^[a-z]+\\.[a-z0-9_]+$")),
            (dead_letter::MESSAGE, message),
            (dead_letter::STAGE, text("The station that gave up.", "^[a-z]+$")),
            (dead_letter::ATTEMPTS, text("How often it tried.", "^[0-9]+$")),
            (dead_letter::TIME, text("When it gave up (RFC 3339, UTC).", "Z$")),
            (dead_letter::GROUP, text("The consumer group that gave up.", "")),
            (dead_letter::VERSION, text("The version of the program.", "")),
            (dead_letter::TOPIC, text("Topic of the record.", "")),
            (dead_letter::PARTITION, text("Partition of the record.", NUMBER)),
            (dead_letter::OFFSET, text("Offset of the record.", NUMBER)),
        ],
        &[
            (
                dead_letter::TIMESTAMP,
                text("Timestamp of the record in milliseconds since 1970.", NUMBER),
            ),
            (
                dead_letter::REPLAY_COUNT_HEADER,
                text("How often the record was sent again.", "^[0-9]+$"),
            ),
        ],
    )
}

const TRACEPARENT: &str = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$";

/// An object of text values; the record may carry other headers too.
fn headers(
    title: &str,
    description: &str,
    required: &[(&str, Value)],
    optional: &[(&str, Value)],
) -> Value {
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    let properties = required.iter().chain(optional);
    let properties: Map<String, Value> =
        properties.map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": names,
    })
}

/// A text with a pattern; an empty pattern allows every text.
fn text(description: &str, pattern: &str) -> Value {
    if pattern.is_empty() {
        return json!({ "type": "string", "description": description });
    }
    json!({ "type": "string", "description": description, "pattern": pattern })
}

fn with_dialect(mut schema: Value) -> Value {
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema
}

/// Schemas for AsyncAPI, which speaks draft 7 and keeps definitions in a place of its own.
pub(super) fn for_asyncapi() -> Map<String, Value> {
    let settings = || SchemaSettings::draft07().with(|s| s.definitions_path = DEFINITIONS.into());
    let mut schemas = Map::new();
    let mut reference = settings().into_generator();
    reference.subschema_for::<ImageReference>();
    schemas.extend(reference.take_definitions(true));
    let mut event = settings().for_serialize().into_generator();
    event.subschema_for::<QualityEvent>();
    schemas.extend(event.take_definitions(true));
    schemas
}

const DEFINITIONS: &str = "/components/schemas";

/// The form of a mask on the wire; [`crate::method::Rle`] writes the text and reads an array too.
pub(super) fn mask(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "size": {
                "description": "Height and width of the image in pixels.",
                "type": "array",
                "items": { "type": "integer", "minimum": 1 },
                "minItems": 2,
                "maxItems": 2
            },
            "counts": {
                "description": "Column-major run lengths in the compressed text of the COCO tools.",
                "type": "string"
            }
        },
        "required": ["size", "counts"]
    })
}
