//! Object notifications of Google Cloud Storage: the resource of an object, as the payload of a
//! Pub/Sub message or of a `CloudEvent`.
//!
//! Sources: "Pub/Sub notifications for Cloud Storage", and `google.cloud.storage.object.v1`. The
//! resource's `etag` is that of the JSON API and differs from the one that a read returns, so the
//! generation identifies the object instead.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::event::error::ReferenceError;
use crate::event::headers::Headers;
use crate::event::limits::URI_CHARS_MAX;
use crate::event::notification::entry::{CreatedObject, Entry, SkipReason};
use crate::event::notification::fields::{
    Fields, as_object, object, required_text, text, whole_number,
};
use crate::event::notification::object_key::uri;
use crate::event::notification::sequencer::Sequencer;
use crate::event::reference::ImageReference;
use crate::event::reference::json;

const NAME_CHARS_MAX: usize = 1024;
/// Prefix of the types of `CloudEvents`.
pub(crate) const TYPE_PREFIX: &str = "google.cloud.storage.object.v1.";

/// Parses the resource of an object. Its event is in the header `eventType`, if the connector
/// copies the attributes of a message to headers; without it, the object was created.
pub(crate) fn resource(headers: &Headers, resource: &Fields) -> Result<Entry, ReferenceError> {
    let event = headers.get_text("eventType").unwrap_or("OBJECT_FINALIZE");
    of_event(event, || object_of(resource))
}

/// Parses a Pub/Sub message with its attributes, as a push subscription wraps it or bare.
pub(crate) fn message(record: &Fields) -> Result<Entry, ReferenceError> {
    let message = match record.get("message") {
        Some(message) => as_object(message, "message")?,
        None => record,
    };
    let attributes = object(message, "message.attributes")?;
    of_message(attributes, message.get("data"))
}

/// Parses a Pub/Sub message as `CloudPubSubSourceConnector` writes it by default: the attributes
/// are fields of one object, with the data in `message`.
pub(crate) fn fields_of_connector(fields: &Fields) -> Result<Entry, ReferenceError> {
    of_message(fields, fields.get("message"))
}

fn of_message(attributes: &Fields, data: Option<&Value>) -> Result<Entry, ReferenceError> {
    let event = required_text(attributes, "message.attributes.eventType", NAME_CHARS_MAX)?;
    of_event(&event, || match data {
        Some(Value::String(data)) if !data.is_empty() => {
            let bytes = BASE64_STANDARD
                .decode(data)
                .map_err(|error| ReferenceError::InvalidBase64 { reason: error.to_string() })?;
            object_of(as_object(&json::parse(&bytes)?, "message.data")?)
        }
        // A subscription without payload has the names in the attributes.
        _ => object_of_attributes(attributes),
    })
}

/// Parses the data of a `CloudEvent` of this type.
pub(crate) fn cloud_event(kind: &str, data: &Value) -> Result<Entry, ReferenceError> {
    let event = match kind.strip_prefix(TYPE_PREFIX) {
        Some("finalized") => "OBJECT_FINALIZE",
        Some("deleted") => "OBJECT_DELETE",
        _ => "",
    };
    of_event(event, || object_of(as_object(data, "data")?))
}

/// Returns true if an object is the resource of an object of Google.
pub(crate) fn is_resource(fields: &Fields) -> bool {
    fields.get("kind").and_then(Value::as_str) == Some("storage#object")
}

/// Returns true if an object is a Pub/Sub message about an object.
pub(crate) fn is_message(fields: &Fields) -> bool {
    let message = fields.get("message").and_then(Value::as_object).unwrap_or(fields);
    let attributes = message.get("attributes").and_then(Value::as_object);
    attributes.is_some_and(|names| names.contains_key("bucketId") || names.contains_key("objectId"))
}

/// Returns true if the fields of an object are the attributes of a Pub/Sub message about an object.
/// The connector leaves out the attribute that is the key of the record.
pub(crate) fn are_fields_of_connector(fields: &Fields) -> bool {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    text("eventType").is_some_and(|event| event.starts_with("OBJECT_"))
        && (text("bucketId").is_some() || text("objectId").is_some())
}

fn of_event(
    event: &str,
    parse: impl FnOnce() -> Result<CreatedObject, ReferenceError>,
) -> Result<Entry, ReferenceError> {
    match event {
        "OBJECT_FINALIZE" => Ok(Entry::Object(Box::new(parse()?))),
        "OBJECT_DELETE" | "OBJECT_ARCHIVE" => {
            let removed = parse().ok().and_then(|object| {
                let generation = object.reference.version_id?.parse().ok()?;
                Some((object.reference.uri, Sequencer::after_generation(generation)?))
            });
            Ok(Entry::Skipped { reason: SkipReason::Removed, removed })
        }
        _ => Ok(Entry::skipped(SkipReason::OtherEvent)),
    }
}

fn object_of(resource: &Fields) -> Result<CreatedObject, ReferenceError> {
    let bucket = required_text(resource, "bucket", NAME_CHARS_MAX)?;
    let key = required_text(resource, "name", URI_CHARS_MAX)?;
    let generation = whole_number(resource, "generation")?;
    let reference = ImageReference {
        version_id: generation.map(|generation| generation.to_string()),
        declared_bytes: whole_number(resource, "size")?,
        ..ImageReference::new(uri("gs", &bucket, &key)?)
    };
    Ok(CreatedObject {
        reference,
        key,
        content_type: text(resource, "contentType", NAME_CHARS_MAX)?,
        account: None,
        sequencer: generation.and_then(Sequencer::of_generation),
    })
}

fn object_of_attributes(attributes: &Fields) -> Result<CreatedObject, ReferenceError> {
    let bucket = required_text(attributes, "message.attributes.bucketId", NAME_CHARS_MAX)?;
    let key = required_text(attributes, "message.attributes.objectId", URI_CHARS_MAX)?;
    let generation = whole_number(attributes, "message.attributes.objectGeneration")?;
    let reference = ImageReference {
        version_id: generation.map(|generation| generation.to_string()),
        ..ImageReference::new(uri("gs", &bucket, &key)?)
    };
    let sequencer = generation.and_then(Sequencer::of_generation);
    Ok(CreatedObject { reference, key, content_type: None, account: None, sequencer })
}
