//! The envelope of a reference: CloudEvents 1.0 in binary or structured mode, or none.

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
    /// True if the envelope and its data are one JSON object.
    pub(crate) is_structured: bool,
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
    let content_type = match headers.get("content-type") {
        Some(bytes) => String::from_utf8_lossy(bytes).trim().to_ascii_lowercase(),
        None => String::new(),
    };
    if content_type.starts_with(CLOUDEVENTS_TYPE) {
        let essence = content_type.split(';').next().unwrap_or_default().trim_end();
        if essence != "application/cloudevents+json" {
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
        Value::Object(event) if event.contains_key("specversion") && !event.contains_key("uri") => {
            structured(headers, payload, event)
        }
        data => Ok(Envelope {
            id: None,
            trace: trace_of(headers),
            event_type: None,
            is_structured: false,
            data,
            text: Cow::Borrowed(payload),
        }),
    }
}

fn open_binary<'a>(headers: &Headers, payload: &'a [u8]) -> Result<Envelope<'a>, ReferenceError> {
    let text = |name| headers.get_text(name).ok_or(ReferenceError::HeaderValue { name });
    check_version(text("ce_specversion")?)?;
    let id = checked_id(text("ce_id")?.to_owned())?;
    let (data, text) = (json::parse(payload)?, Cow::Borrowed(payload));
    let event_type = Some(headers.get_text("ce_type").unwrap_or_default().to_owned());
    let trace = trace_of(headers);
    Ok(Envelope { id: Some(id), trace, event_type, is_structured: false, data, text })
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
    mut event: Map<String, Value>,
) -> Result<Envelope<'a>, ReferenceError> {
    let version = take_text(&mut event, "specversion", PAYLOAD_BYTES_MAX)?;
    check_version(&version.unwrap_or_default())?;
    let id = take_text(&mut event, "id", ID_CHARS_MAX)?;
    let attribute = |name: &str| event.get(name).and_then(Value::as_str);
    let trace = trace_of(headers).or_else(|| {
        attribute("traceparent")
            .and_then(|parent| TraceContext::parse(parent, attribute("tracestate")))
    });
    let event_type = Some(attribute("type").unwrap_or_default().to_owned());
    let (data, text) = data_of(event, payload)?;
    Ok(Envelope { id, trace, event_type, is_structured: true, data, text })
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
