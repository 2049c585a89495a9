//! Recognises the shape of a record, and splits it into its entries.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::event::error::ReferenceError;
use crate::event::headers::Headers;
use crate::event::limits::{OBJECTS_MAX, PAYLOAD_BYTES_MAX, URI_CHARS_MAX};
use crate::event::notification::entry::{Entry, RecordEntry, SkipReason};
use crate::event::notification::fields::Fields;
use crate::event::notification::input_format::InputFormat;
use crate::event::notification::object_count::RECORDS;
use crate::event::notification::{azure, gcs, s3};
use crate::event::reference::envelope::{self, Envelope};
use crate::event::reference::image_reference::of_envelope;
use crate::event::reference::json::kind_of;

/// The shape of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Reference,
    /// `{"Records": […]}`, or the list alone.
    S3Records,
    S3Bridge,
    S3Flat,
    S3Test,
    GcsResource,
    GcsMessage,
    GcsCloudEvent,
    /// One event of Event Grid, or a list of them.
    AzureGrid,
    AzureCloudEvent,
}

/// Parses a record of the given format into its entries, at least one. A reference has one entry.
///
/// ```
/// use dog_iqa::event::Headers;
/// use dog_iqa::event::notification::{self, Entry, InputFormat};
///
/// let payload = br#"{"Records": [{"eventName": "ObjectCreated:Put", "s3": {
///     "bucket": {"name": "photos"}, "object": {"key": "my+cup.jpg", "size": 1024}}}]}"#;
/// let entries = notification::parse(&Headers::default(), payload, InputFormat::Auto)?;
/// let Entry::Object(object) = &entries[0].entry else { panic!("an object was created") };
/// assert_eq!(object.reference.uri, "s3://photos/my cup.jpg");
/// # Ok::<(), dog_iqa::event::ReferenceError>(())
/// ```
///
/// # Errors
/// Fails if the whole record cannot be parsed, has another format or too many entries. An entry
/// that cannot be parsed is [`Entry::Invalid`].
pub fn parse(
    headers: &Headers,
    payload: &[u8],
    format: InputFormat,
) -> Result<Vec<RecordEntry>, ReferenceError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(ReferenceError::TooLarge { bytes: payload.len() });
    }
    let envelope = envelope::open(headers, payload)?;
    let shape = match format {
        InputFormat::Reference => Shape::Reference,
        _ => shape_of(&envelope),
    };
    if !is_accepted(format, shape, &envelope) {
        return Err(ReferenceError::UnexpectedFormat { expected: format.name() });
    }
    let entry = match (shape, &envelope.data) {
        (Shape::Reference, _) => {
            let entry = Entry::Reference(Box::new(of_envelope(envelope)?));
            return Ok(vec![RecordEntry { entry, alone: None }]);
        }
        (Shape::S3Records, data) => {
            return list(&envelope, data.get(RECORDS).unwrap_or(data), s3::record);
        }
        (Shape::AzureGrid, data @ Value::Array(_)) => {
            return list(&envelope, data, azure::grid_event);
        }
        (Shape::AzureGrid, data) => azure::grid_event(data),
        (Shape::S3Bridge, Value::Object(event)) => s3::bridged(event),
        (Shape::S3Flat, Value::Object(event)) => s3::flat(event),
        (Shape::S3Test, _) => Ok(Entry::skipped(SkipReason::Test)),
        (Shape::GcsResource, Value::Object(resource)) => gcs::resource(headers, resource),
        (Shape::GcsMessage, Value::Object(message)) => gcs::message(message),
        (Shape::GcsCloudEvent, data) => gcs::cloud_event(kind_of_event(&envelope), data),
        (_, data) => azure::cloud_event(kind_of_event(&envelope), data),
    };
    Ok(vec![RecordEntry { entry: finished(entry, &envelope, true), alone: None }])
}

fn shape_of(envelope: &Envelope<'_>) -> Shape {
    let kind = kind_of_event(envelope);
    if kind.starts_with(gcs::TYPE_PREFIX) {
        return Shape::GcsCloudEvent;
    }
    if azure::is_type(kind) {
        return Shape::AzureCloudEvent;
    }
    match &envelope.data {
        Value::Object(fields) if !fields.contains_key("uri") => shape_of_object(fields),
        Value::Array(elements) => match elements.first().and_then(Value::as_object) {
            Some(first) if azure::is_grid_event(first) => Shape::AzureGrid,
            Some(first) if first.contains_key("s3") => Shape::S3Records,
            _ => Shape::Reference,
        },
        _ => Shape::Reference,
    }
}

fn shape_of_object(fields: &Fields) -> Shape {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    if fields.contains_key(RECORDS) {
        Shape::S3Records
    } else if text("source") == "aws.s3" && fields.contains_key("detail-type") {
        Shape::S3Bridge
    } else if s3::is_flat(fields) {
        Shape::S3Flat
    } else if text("Event") == "s3:TestEvent" {
        Shape::S3Test
    } else if gcs::is_resource(fields) {
        Shape::GcsResource
    } else if gcs::is_message(fields) {
        Shape::GcsMessage
    } else if azure::is_grid_event(fields) {
        Shape::AzureGrid
    } else {
        Shape::Reference
    }
}

fn is_accepted(format: InputFormat, shape: Shape, envelope: &Envelope<'_>) -> bool {
    match format {
        InputFormat::Auto | InputFormat::Reference => true,
        InputFormat::S3 => {
            matches!(shape, Shape::S3Records | Shape::S3Bridge | Shape::S3Flat | Shape::S3Test)
        }
        InputFormat::Gcs => {
            matches!(shape, Shape::GcsResource | Shape::GcsMessage | Shape::GcsCloudEvent)
        }
        InputFormat::Azure => matches!(shape, Shape::AzureGrid | Shape::AzureCloudEvent),
        InputFormat::CloudEvents => envelope.event_type.is_some(),
    }
}

fn kind_of_event<'a>(envelope: &'a Envelope<'_>) -> &'a str {
    envelope.event_type.as_deref().unwrap_or_default()
}

/// Parses the entries of a list.
fn list(
    envelope: &Envelope<'_>,
    list: &Value,
    parse: fn(&Value) -> Result<Entry, ReferenceError>,
) -> Result<Vec<RecordEntry>, ReferenceError> {
    let Value::Array(elements) = list else {
        let (expected, found) = ("an array", kind_of(list));
        return Err(ReferenceError::WrongType { field: RECORDS, expected, found });
    };
    // A structured CloudEvent is one event. Its list was not counted at its admission, either.
    let limit = if envelope.is_structured { 1 } else { OBJECTS_MAX };
    if elements.len() > limit {
        return Err(ReferenceError::TooManyObjects { objects: elements.len(), limit });
    }
    if elements.is_empty() {
        let entry = Entry::skipped(SkipReason::Empty);
        return Ok(vec![RecordEntry { entry, alone: None }]);
    }
    let is_only = elements.len() == 1;
    let mut alone = if is_only { Vec::new() } else { texts(&envelope.text)? }.into_iter();
    let parsed = elements.iter().map(|element| {
        let entry = finished(parse(element), envelope, is_only);
        RecordEntry { entry, alone: alone.next() }
    });
    Ok(parsed.collect())
}

/// Returns the value of a record with each element alone, whose text is unchanged.
fn texts(text: &[u8]) -> Result<Vec<Box<[u8]>>, ReferenceError> {
    let invalid =
        |error: serde_json::Error| ReferenceError::InvalidJson { reason: error.to_string() };
    if text.trim_ascii_start().starts_with(b"[") {
        let elements: Vec<&RawValue> = serde_json::from_slice(text).map_err(invalid)?;
        return Ok(elements
            .iter()
            .map(|element| format!("[{element}]").into_bytes().into())
            .collect());
    }
    let fields: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(text).map_err(invalid)?;
    let list = fields.get(RECORDS).map_or("[]", |list| list.get());
    let elements: Vec<&RawValue> = serde_json::from_str(list).map_err(invalid)?;
    let wrap = |element: &&RawValue| format!("{{\"{RECORDS}\":[{element}]}}").into_bytes().into();
    Ok(elements.iter().map(wrap).collect())
}

/// Adds the id and trace of the envelope, and skips folders.
fn finished(entry: Result<Entry, ReferenceError>, envelope: &Envelope<'_>, is_only: bool) -> Entry {
    let mut object = match entry {
        Ok(Entry::Object(object)) => object,
        Ok(other) => return other,
        Err(error) => return Entry::Invalid(error),
    };
    if object.key.ends_with('/') {
        return Entry::skipped(SkipReason::Folder);
    }
    if object.reference.uri.chars().nth(URI_CHARS_MAX).is_some() {
        let (field, limit) = ("the key", URI_CHARS_MAX);
        return Entry::Invalid(ReferenceError::TooLong { field, limit, unit: "characters" });
    }
    object.reference.trace.clone_from(&envelope.trace);
    // The id of a CloudEvent names one object only.
    if let Some(id) = envelope.id.clone().filter(|_| is_only) {
        object.reference.id = id;
    }
    Entry::Object(object)
}
