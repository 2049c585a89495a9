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
    /// `{"Records": […]}`.
    S3Records,
    /// An element of `Records`.
    S3Record,
    S3Bridge,
    S3Flat,
    S3Test,
    GcsResource,
    GcsMessage,
    /// A Pub/Sub message as the fields of one object.
    GcsFields,
    GcsCloudEvent,
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
    if format == InputFormat::Reference {
        let reference = of_envelope(envelope::open(headers, payload)?)?;
        return Ok(vec![only(Entry::Reference(Box::new(reference)))]);
    }
    let envelope = envelope::open_events(headers, payload)?;
    let without_schema = envelope.without_schema();
    let envelope = without_schema.filter(|it| shape_of(it) != Shape::Reference).unwrap_or(envelope);
    entries(headers, envelope, format)
}

/// Parses a list of events, or a single one.
fn entries(
    headers: &Headers,
    envelope: Envelope<'_>,
    format: InputFormat,
) -> Result<Vec<RecordEntry>, ReferenceError> {
    // The content of a CloudEvent has any format.
    let is_in_cloud_event = format == InputFormat::CloudEvents && envelope.event_type.is_some();
    let format = if is_in_cloud_event { InputFormat::Auto } else { format };
    let shape = shape_of(&envelope);
    if shape == Shape::Reference && envelope.data.is_array() {
        return list(headers, &envelope, format);
    }
    if !is_accepted(format, shape) {
        return Err(ReferenceError::UnexpectedFormat { expected: format.name() });
    }
    let entry = match (shape, &envelope.data) {
        (Shape::Reference, _) => {
            let reference = of_envelope(envelope)?;
            return Ok(vec![only(Entry::Reference(Box::new(reference)))]);
        }
        (Shape::S3Records, data) => {
            return records(&envelope, data.get(RECORDS).unwrap_or(&Value::Null));
        }
        (Shape::S3Record, data) => s3::record(data),
        (Shape::S3Bridge, Value::Object(event)) => s3::bridged(event),
        (Shape::S3Flat, Value::Object(event)) => s3::flat(event),
        (Shape::S3Test, _) => Ok(Entry::skipped(SkipReason::Test)),
        (Shape::GcsResource, Value::Object(resource)) => gcs::resource(headers, resource),
        (Shape::GcsMessage, Value::Object(message)) => gcs::message(message),
        (Shape::GcsFields, Value::Object(fields)) => gcs::fields_of_connector(fields),
        (Shape::GcsCloudEvent, data) => gcs::cloud_event(kind_of_event(&envelope), data),
        (Shape::AzureGrid, data) => azure::grid_event(data),
        (_, data) => azure::cloud_event(kind_of_event(&envelope), data),
    };
    Ok(vec![only(finished(entry, &envelope, true))])
}

fn only(entry: Entry) -> RecordEntry {
    RecordEntry { entry, alone: None }
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
        _ => Shape::Reference,
    }
}

fn shape_of_object(fields: &Fields) -> Shape {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    if fields.contains_key(RECORDS) {
        Shape::S3Records
    } else if s3::is_record(fields) {
        Shape::S3Record
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
    } else if gcs::are_fields_of_connector(fields) {
        Shape::GcsFields
    } else if azure::is_grid_event(fields) {
        Shape::AzureGrid
    } else {
        Shape::Reference
    }
}

fn is_accepted(format: InputFormat, shape: Shape) -> bool {
    use Shape::{
        AzureCloudEvent, AzureGrid, GcsCloudEvent, GcsFields, GcsMessage, GcsResource, S3Bridge,
        S3Flat, S3Record, S3Records, S3Test,
    };
    match format {
        InputFormat::Auto | InputFormat::Reference => true,
        InputFormat::S3 => {
            matches!(shape, S3Records | S3Record | S3Bridge | S3Flat | S3Test)
        }
        InputFormat::Gcs => {
            matches!(shape, GcsResource | GcsMessage | GcsFields | GcsCloudEvent)
        }
        InputFormat::Azure => matches!(shape, AzureGrid | AzureCloudEvent),
        // Entries of CloudEvents are parsed with another format.
        InputFormat::CloudEvents => false,
    }
}

fn kind_of_event<'a>(envelope: &'a Envelope<'_>) -> &'a str {
    envelope.event_type.as_deref().unwrap_or_default()
}

/// Parses a list of events, each as if it was alone. The list fails as a whole if it has none.
fn list(
    headers: &Headers,
    envelope: &Envelope<'_>,
    format: InputFormat,
) -> Result<Vec<RecordEntry>, ReferenceError> {
    let texts: Vec<&RawValue> = serde_json::from_slice(&envelope.text).map_err(invalid_json)?;
    if texts.is_empty() {
        return Ok(vec![only(Entry::skipped(SkipReason::Empty))]);
    }
    check_count(envelope, texts.len())?;
    let is_only = texts.len() == 1;
    let mut parsed = Vec::with_capacity(texts.len());
    let mut has_event = false;
    for text in texts {
        let result = element(headers, envelope, text, format, is_only);
        let is_other = |error: &ReferenceError| {
            use ReferenceError::{NotAnEvent, UnexpectedFormat};
            matches!(error, NotAnEvent { .. } | UnexpectedFormat { .. })
        };
        has_event |= !result.as_ref().is_err_and(is_other);
        let alone = (!is_only).then(|| format!("[{text}]").into_bytes().into());
        parsed.push(RecordEntry { entry: result.unwrap_or_else(Entry::Invalid), alone });
    }
    match format {
        _ if has_event => Ok(parsed),
        InputFormat::Auto => Err(ReferenceError::NotAnObject { found: "an array" }),
        _ => Err(ReferenceError::UnexpectedFormat { expected: format.name() }),
    }
}

/// Parses an element of a list of events.
fn element(
    headers: &Headers,
    list: &Envelope<'_>,
    text: &RawValue,
    format: InputFormat,
    is_only: bool,
) -> Result<Entry, ReferenceError> {
    let mut envelope = list.open_element(text.get())?;
    if envelope.event_type.is_none() {
        if shape_of(&envelope) == Shape::Reference {
            return Err(match format {
                InputFormat::Auto => ReferenceError::NotAnEvent { found: kind_of(&envelope.data) },
                _ => ReferenceError::UnexpectedFormat { expected: format.name() },
            });
        }
        // The id of a CloudEvent names one object only.
        envelope.id = list.id.clone().filter(|_| is_only);
    }
    let entries = entries(headers, envelope, format)?;
    entries.into_iter().next().map(|parsed| parsed.entry).ok_or(ReferenceError::MissingData)
}

/// Parses the elements of `Records`.
fn records(envelope: &Envelope<'_>, list: &Value) -> Result<Vec<RecordEntry>, ReferenceError> {
    let Value::Array(elements) = list else {
        let (expected, found) = ("an array", kind_of(list));
        return Err(ReferenceError::WrongType { field: RECORDS, expected, found });
    };
    if elements.is_empty() {
        return Ok(vec![only(Entry::skipped(SkipReason::Empty))]);
    }
    check_count(envelope, elements.len())?;
    let is_only = elements.len() == 1;
    let mut alone = if is_only { Vec::new() } else { texts(&envelope.text)? }.into_iter();
    let parsed = elements.iter().map(|element| {
        let entry = finished(s3::record(element), envelope, is_only);
        RecordEntry { entry, alone: alone.next() }
    });
    Ok(parsed.collect())
}

/// Refuses a list that is too long. One that is nested was not counted at the admission of its
/// record, so it may have one element.
fn check_count(envelope: &Envelope<'_>, objects: usize) -> Result<(), ReferenceError> {
    let limit = if envelope.is_nested { 1 } else { OBJECTS_MAX };
    if objects > limit {
        return Err(ReferenceError::TooManyObjects { objects, limit });
    }
    Ok(())
}

/// Returns the value of a record with each element of `Records` alone, whose text is unchanged.
fn texts(text: &[u8]) -> Result<Vec<Box<[u8]>>, ReferenceError> {
    let fields: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(text).map_err(invalid_json)?;
    let list = fields.get(RECORDS).map_or("[]", |list| list.get());
    let elements: Vec<&RawValue> = serde_json::from_str(list).map_err(invalid_json)?;
    let wrap = |element: &&RawValue| format!("{{\"{RECORDS}\":[{element}]}}").into_bytes().into();
    Ok(elements.iter().map(wrap).collect())
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of map_err")]
fn invalid_json(error: serde_json::Error) -> ReferenceError {
    ReferenceError::InvalidJson { reason: error.to_string() }
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
    object.reference.judge_content_type = object.content_type.is_none();
    object.reference.trace.clone_from(&envelope.trace);
    // The id of a CloudEvent names one object only.
    if let Some(id) = envelope.id.clone().filter(|_| is_only) {
        object.reference.id = id;
    }
    Entry::Object(object)
}
