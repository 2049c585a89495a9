//! The envelope of a reference: CloudEvents 1.0 in binary, structured or batched mode, the schema
//! of Kafka Connect, or none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::event::error::ReferenceError;
use crate::event::headers::Headers;
use crate::event::limits::{ID_CHARS_MAX, PAYLOAD_BYTES_MAX};
use crate::event::reference::frame::without_frame;
use crate::event::reference::json::{self, kind_of, take_text};
use crate::event::trace::TraceContext;

/// Prefix of the content types of structured CloudEvents.
const CLOUDEVENTS_TYPE: &str = "application/cloudevents";
const STRUCTURED_TYPE: &str = "application/cloudevents+json";
const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// Headers that a `CloudEvent` in binary mode must all have.
const BINARY_HEADERS: [&str; 4] = ["ce_specversion", "ce_id", "ce_source", "ce_type"];

/// Longest foreign text that an error repeats, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// An opened envelope: the data, and the id and trace that the envelope adds.
pub(crate) struct Envelope<'a> {
    pub(crate) id: Option<String>,
    pub(crate) trace: Option<TraceContext>,
    /// Type of the `CloudEvent`; `None` without one.
    pub(crate) event_type: Option<String>,
    /// True if the data are a part of the record's JSON, so that their list was not counted.
    pub(crate) is_nested: bool,
    pub(crate) data: Value,
    /// The text of `data`, whose numbers have all their digits.
    pub(crate) text: Cow<'a, [u8]>,
}

/// Unpacks the value of a record from its frame and its envelope, if it has them.
pub(crate) fn open<'a>(
    headers: &Headers,
    payload: &'a [u8],
) -> Result<Envelope<'a>, ReferenceError> {
    let payload = without_frame(payload)?;
    let content_type = content_type_of(headers);
    if content_type.starts_with(CLOUDEVENTS_TYPE) {
        if essence(&content_type) != STRUCTURED_TYPE {
            let content_type = content_type.chars().take(QUOTED_CHARS_MAX).collect();
            return Err(ReferenceError::UnsupportedContentType { content_type });
        }
        return open_structured(headers, payload);
    }
    if BINARY_HEADERS.iter().all(|name| headers.get(name).is_some()) {
        return open_binary(headers, payload);
    }
    match json::parse(payload)? {
        // A structured event whose producer set no content type.
        Value::Object(event) if is_structured(&event) => structured(headers, payload, event),
        data => Ok(plain(headers, payload, data)),
    }
}

/// Unpacks a record that may also be a list of structured CloudEvents. The list is the data.
pub(crate) fn open_events<'a>(
    headers: &Headers,
    payload: &'a [u8],
) -> Result<Envelope<'a>, ReferenceError> {
    let (content_type, json) = (content_type_of(headers), without_frame(payload)?);
    let is_batch = match essence(&content_type) {
        BATCH_TYPE => true,
        // The type of a single event.
        STRUCTURED_TYPE => json.trim_ascii_start().starts_with(b"["),
        _ => false,
    };
    if !is_batch {
        return open(headers, payload);
    }
    match json::parse(json)? {
        list @ Value::Array(_) => Ok(plain(headers, json, list)),
        other => {
            let (field, expected) = ("the batch of CloudEvents", "an array");
            Err(ReferenceError::WrongType { field, expected, found: kind_of(&other) })
        }
    }
}

impl Envelope<'_> {
    /// Unpacks an element of a list, the data of `self`: a structured `CloudEvent` with an id and a
    /// trace of its own, or plain JSON. A list that is in a `CloudEvent` has no further ones.
    pub(crate) fn open_element<'a>(&self, text: &'a str) -> Result<Envelope<'a>, ReferenceError> {
        let (trace, text) = (self.trace.clone(), text.as_bytes());
        match json::parse(text)? {
            Value::Object(event) if is_structured(&event) && !self.is_nested => {
                let envelope = unpacked(text, event)?;
                Ok(Envelope { trace: envelope.trace.or(trace), ..envelope })
            }
            data => Ok(Envelope {
                id: None,
                trace,
                event_type: None,
                is_nested: true,
                data,
                text: Cow::Borrowed(text),
            }),
        }
    }

    /// Returns the value that `JsonConverter` of Kafka Connect wrote with its schema, or `None`
    /// without such a schema.
    pub(crate) fn without_schema(&self) -> Option<Envelope<'static>> {
        let fields = self.data.as_object().filter(|fields| fields.len() == 2)?;
        let (schema, payload) = (fields.get("schema")?, fields.get("payload")?);
        let data = match payload {
            Value::String(text) if schema.get("type")? == "bytes" => {
                json::parse(&BASE64_STANDARD.decode(text).ok()?).ok()?
            }
            Value::String(text) => json::parse(text.as_bytes()).ok()?,
            data => data.clone(),
        };
        Some(Envelope {
            id: self.id.clone(),
            trace: self.trace.clone(),
            event_type: self.event_type.clone(),
            is_nested: true,
            text: Cow::Owned(data.to_string().into_bytes()),
            data,
        })
    }
}

fn content_type_of(headers: &Headers) -> String {
    let value = headers.get("content-type").map(String::from_utf8_lossy).unwrap_or_default();
    value.trim().to_ascii_lowercase()
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim_end()
}

/// Returns true if an object is a structured `CloudEvent`. Its producer may set no content type.
fn is_structured(fields: &Map<String, Value>) -> bool {
    fields.contains_key("specversion") && !fields.contains_key("uri")
}

/// Wraps data without a `CloudEvent`.
fn plain<'a>(headers: &Headers, payload: &'a [u8], data: Value) -> Envelope<'a> {
    Envelope {
        id: None,
        trace: trace_of(headers),
        event_type: None,
        is_nested: false,
        data,
        text: Cow::Borrowed(payload),
    }
}

fn open_binary<'a>(headers: &Headers, payload: &'a [u8]) -> Result<Envelope<'a>, ReferenceError> {
    let text = |name| headers.get_text(name).ok_or(ReferenceError::HeaderValue { name });
    check_version(text("ce_specversion")?)?;
    let id = checked_id(text("ce_id")?.to_owned())?;
    let (data, text) = (json::parse(payload)?, Cow::Borrowed(payload));
    let event_type = Some(headers.get_text("ce_type").unwrap_or_default().to_owned());
    let trace = trace_of(headers);
    Ok(Envelope { id: Some(id), trace, event_type, is_nested: false, data, text })
}

fn open_structured<'a>(
    headers: &Headers,
    payload: &'a [u8],
) -> Result<Envelope<'a>, ReferenceError> {
    match json::parse(payload)? {
        Value::Object(event) => structured(headers, payload, event),
        other => Err(ReferenceError::NotAnObject { found: kind_of(&other) }),
    }
}

fn structured<'a>(
    headers: &Headers,
    payload: &'a [u8],
    event: Map<String, Value>,
) -> Result<Envelope<'a>, ReferenceError> {
    let envelope = unpacked(payload, event)?;
    Ok(Envelope { trace: trace_of(headers).or(envelope.trace), ..envelope })
}

/// Unpacks a structured event with the trace in its attributes.
fn unpacked(payload: &[u8], mut event: Map<String, Value>) -> Result<Envelope<'_>, ReferenceError> {
    let version = take_text(&mut event, "specversion", PAYLOAD_BYTES_MAX)?;
    check_version(&version.unwrap_or_default())?;
    let id = take_text(&mut event, "id", ID_CHARS_MAX)?;
    let attribute = |name: &str| event.get(name).and_then(Value::as_str);
    let trace = attribute("traceparent")
        .and_then(|parent| TraceContext::parse(parent, attribute("tracestate")));
    let event_type = Some(attribute("type").unwrap_or_default().to_owned());
    let (data, text) = data_of(event, payload)?;
    Ok(Envelope { id, trace, event_type, is_nested: true, data, text })
}

/// Returns the data of an event and their text.
fn data_of(
    mut event: Map<String, Value>,
    payload: &[u8],
) -> Result<(Value, Cow<'_, [u8]>), ReferenceError> {
    match (event.remove("data"), event.remove("data_base64")) {
        (Some(data), _) if !data.is_null() => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(payload)
                .map_err(|error| ReferenceError::InvalidJson { reason: error.to_string() })?;
            let text = fields.get("data").map_or("", |text| text.get());
            Ok((data, Cow::Borrowed(text.as_bytes())))
        }
        (_, Some(Value::String(text))) => {
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|error| ReferenceError::InvalidBase64 { reason: error.to_string() })?;
            Ok((json::parse(&bytes)?, Cow::Owned(bytes)))
        }
        (_, Some(other)) if !other.is_null() => {
            let (field, expected) = ("data_base64", "a string");
            Err(ReferenceError::WrongType { field, expected, found: kind_of(&other) })
        }
        _ => Err(ReferenceError::MissingData),
    }
}

/// Refuses another major version. A later 1.x is compatible with 1.0.
fn check_version(version: &str) -> Result<(), ReferenceError> {
    if version.starts_with("1.") {
        return Ok(());
    }
    let version = version.chars().take(QUOTED_CHARS_MAX).collect();
    Err(ReferenceError::UnsupportedSpecVersion { version })
}

fn checked_id(id: String) -> Result<String, ReferenceError> {
    let field = "ce_id";
    if id.is_empty() {
        return Err(ReferenceError::EmptyField { field });
    }
    if id.chars().nth(ID_CHARS_MAX).is_some() {
        return Err(ReferenceError::TooLong { field, limit: ID_CHARS_MAX, unit: "characters" });
    }
    Ok(id)
}

fn trace_of(headers: &Headers) -> Option<TraceContext> {
    let parse =
        |parent, state| TraceContext::parse(headers.get_text(parent)?, headers.get_text(state));
    parse("traceparent", "tracestate").or_else(|| parse("ce_traceparent", "ce_tracestate"))
}
