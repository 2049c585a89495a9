//! JSON Schemas of the messages and their headers.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::event::cloudevent_headers::{QUALITY_EVENT_TYPE, SHADOW_HEADER};
use crate::event::dead_letter;
use crate::event::quality_event::QualityEvent;
use crate::event::reference::ImageReference;

const TRACEPARENT: &str = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$";

/// Path of the schemas within an AsyncAPI document.
const ASYNCAPI_SCHEMAS: &str = "/components/schemas";

/// Returns the schema of a reference as it is parsed.
pub(crate) fn image_reference() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<ImageReference>().to_value()
}

/// Returns the schema of an event as it is written.
pub(crate) fn quality_event() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    generator.into_root_schema_for::<QualityEvent>().to_value()
}

/// Returns the schema of the headers of a quality event. Values are UTF-8 text.
pub(crate) fn quality_event_headers() -> Value {
    headers(
        "QualityEventHeaders",
        "The event as a CloudEvent 1.0 in Kafka's binary mode, with the trace of its reference.",
        &[
            ("ce_specversion", json!({ "type": "string", "const": "1.0" })),
            ("ce_id", text("The event's id, as in its `event_id`.", "")),
            ("ce_source", text("The engine of this service that wrote it.", "^/dogiqa/")),
            ("ce_type", json!({ "type": "string", "const": QUALITY_EVENT_TYPE })),
            ("ce_time", text("The event's time, as in its `event_time`.", "Z$")),
            ("content-type", json!({ "type": "string", "const": "application/json" })),
        ],
        &[
            ("traceparent", text("W3C trace context.", TRACEPARENT)),
            ("tracestate", text("W3C trace state of the reference, unchanged.", "")),
        ],
    )
}

/// Returns the schema of the headers of an event of a shadow. Values are UTF-8 text.
pub(crate) fn shadow_event_headers() -> Value {
    let mut schema = quality_event_headers();
    schema["title"] = json!("ShadowEventHeaders");
    schema["properties"][SHADOW_HEADER] = json!({ "type": "string", "const": "true" });
    let required = schema["required"].as_array_mut().expect("the schema names its headers");
    required.push(json!(SHADOW_HEADER));
    schema
}

/// Returns the schema of the headers of a dead letter. Values are UTF-8 text.
pub(crate) fn dead_letter_headers() -> Value {
    const NUMBER: &str = "^-?[0-9]+$";
    let message = json!({
        "type": "string",
        "maxLength": dead_letter::MESSAGE_BYTES_MAX,
        "description": "Description of the error, for people; URIs in it have no query."
    });
    headers(
        "DeadLetterHeaders",
        "The reason why a record could not be answered. Key, value and the record's own headers \
         are unchanged. If the record named several objects, the value has the failed one only.",
        &[
            (dead_letter::CODE, text("Stable name of the error.", "^[a-z]+\\.[a-z0-9_]+$")),
            (dead_letter::MESSAGE, message),
            (dead_letter::STAGE, text("Stage that failed.", "^[a-z]+$")),
            (
                dead_letter::ATTEMPTS,
                text("Number of attempts, at least 1, also if no request was sent.", "^[0-9]+$"),
            ),
            (dead_letter::TIME, text("Time of the failure (RFC 3339, UTC).", "Z$")),
            (dead_letter::GROUP, text("Consumer group of the worker.", "")),
            (dead_letter::VERSION, text("Version of the program.", "")),
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
                dead_letter::INDEX,
                text(
                    "Position of the object in its record, if the record named several.",
                    "^[0-9]+$",
                ),
            ),
            (
                dead_letter::REPLAY_COUNT_HEADER,
                text("Number of replays of the record.", "^[0-9]+$"),
            ),
        ],
    )
}

/// Returns the schema of an object of text values. The record may have other headers too.
fn headers(
    title: &str,
    description: &str,
    required: &[(&str, Value)],
    optional: &[(&str, Value)],
) -> Value {
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> = required
        .iter()
        .chain(optional)
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": names,
    })
}

/// Returns the schema of a text with a pattern. An empty pattern allows every text.
fn text(description: &str, pattern: &str) -> Value {
    if pattern.is_empty() {
        return json!({ "type": "string", "description": description });
    }
    json!({ "type": "string", "description": description, "pattern": pattern })
}

/// Adds the dialect, for a schema that is a document.
pub(crate) fn with_dialect(mut schema: Value) -> Value {
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema
}

/// Returns the schemas for AsyncAPI, which requires draft 7 and its own path for definitions.
pub(crate) fn for_asyncapi() -> Map<String, Value> {
    let settings =
        || SchemaSettings::draft07().with(|s| s.definitions_path = ASYNCAPI_SCHEMAS.into());
    let mut schemas = Map::new();
    let mut reference = settings().into_generator();
    reference.subschema_for::<ImageReference>();
    schemas.extend(reference.take_definitions(true));
    let mut event = settings().for_serialize().into_generator();
    event.subschema_for::<QualityEvent>();
    schemas.extend(event.take_definitions(true));
    schemas
}
