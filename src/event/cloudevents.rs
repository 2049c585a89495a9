//! CloudEvents 1.0 on Kafka: the envelope that a reference may come in, and the headers that a
//! quality event goes out with.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::headers::Headers;
use super::quality_event::QualityEvent;
use super::reference::{ID_CHARS_MAX, PAYLOAD_BYTES_MAX, ReferenceError, json, kind_of, take_text};
use super::trace::TraceContext;

/// `ce_type` of a quality event.
pub const QUALITY_EVENT_TYPE: &str = "dogiqa.image.quality.v1";

/// Content types of structured CloudEvents begin with this.
const CLOUDEVENTS_TYPE: &str = "application/cloudevents";

/// Headers that, all together, mark a `CloudEvent` in binary mode.
const BINARY_MARKS: [&str; 4] = ["ce_specversion", "ce_id", "ce_source", "ce_type"];

/// Characters of a stranger's text that an error repeats.
const QUOTED_CHARS_MAX: usize = 80;

/// What an envelope holds: the data, and what the envelope itself adds to a reference.
pub(super) struct Envelope {
    pub(super) id: Option<String>,
    pub(super) trace: Option<TraceContext>,
    pub(super) data: Value,
}

/// The headers of a quality event, in the binary mode of the Kafka binding, with the trace that its
/// reference came with.
pub fn headers_for(event: &QualityEvent, trace: Option<&TraceContext>) -> Vec<(String, String)> {
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.event_id.clone()),
        ("ce_source", format!("/dogiqa/{}", event.engine.name)),
        ("ce_type", QUALITY_EVENT_TYPE.to_owned()),
        ("ce_time", event.time_text()),
        ("content-type", "application/json".to_owned()),
    ];
    if let Some(trace) = trace {
        headers.push(("traceparent", trace.header()));
        if let Some(state) = trace.state() {
            headers.push(("tracestate", state.to_owned()));
        }
    }
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Takes a record out of its envelope, if it has one.
pub(super) fn open(headers: &Headers, payload: &[u8]) -> Result<Envelope, ReferenceError> {
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
    if BINARY_MARKS.iter().all(|name| headers.get(name).is_some()) {
        return open_binary(headers, payload);
    }
    Ok(Envelope { id: None, trace: trace_of(headers), data: json(payload)? })
}

fn open_binary(headers: &Headers, payload: &[u8]) -> Result<Envelope, ReferenceError> {
    let text = |name| headers.get_text(name).ok_or(ReferenceError::HeaderValue { name });
    check_version(text("ce_specversion")?)?;
    let id = checked_id(text("ce_id")?.to_owned())?;
    Ok(Envelope { id: Some(id), trace: trace_of(headers), data: json(payload)? })
}

fn open_structured(headers: &Headers, payload: &[u8]) -> Result<Envelope, ReferenceError> {
    let mut event = match json(payload)? {
        Value::Object(event) => event,
        other => return Err(ReferenceError::NotAnObject { found: kind_of(&other) }),
    };
    let version = take_text(&mut event, "specversion", PAYLOAD_BYTES_MAX)?;
    check_version(&version.unwrap_or_default())?;
    let id = take_text(&mut event, "id", ID_CHARS_MAX)?;
    let attribute = |name: &str| event.get(name).and_then(Value::as_str);
    let trace = trace_of(headers).or_else(|| {
        attribute("traceparent")
            .and_then(|parent| TraceContext::parse(parent, attribute("tracestate")))
    });
    let data = data_of(event)?;
    Ok(Envelope { id, trace, data })
}

fn data_of(mut event: Map<String, Value>) -> Result<Value, ReferenceError> {
    match (event.remove("data"), event.remove("data_base64")) {
        (Some(data), _) if !data.is_null() => Ok(data),
        (_, Some(Value::String(text))) => {
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|error| ReferenceError::InvalidBase64 { reason: error.to_string() })?;
            json(&bytes)
        }
        (_, Some(other)) if !other.is_null() => {
            let (field, expected) = ("data_base64", "a string");
            Err(ReferenceError::WrongType { field, expected, found: kind_of(&other) })
        }
        _ => Err(ReferenceError::MissingData),
    }
}

/// Refuses another major version; a later 1.x is as readable as 1.0.
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
