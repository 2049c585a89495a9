//! The message that asks for an image to be assessed, and how it is read.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::cloudevents::{self, Envelope};
use super::headers::Headers;
use super::trace::TraceContext;

/// Longest record value, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Longest `id`, in characters.
pub const ID_CHARS_MAX: usize = 1024;

/// Longest `uri`, in characters.
pub const URI_CHARS_MAX: usize = 8192;

/// Longest `etag`, in characters.
pub const ETAG_CHARS_MAX: usize = 1024;

/// Longest name of a `policy`, in characters.
pub const POLICY_CHARS_MAX: usize = 128;

/// Longest `metadata`, in bytes of JSON.
pub const METADATA_BYTES_MAX: usize = 64 << 10;

/// Most values in `metadata`, at all depths: each takes a hundred bytes in memory, however few in JSON.
pub const METADATA_VALUES_MAX: usize = 1024;

/// A request to assess one image.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "ImageReference")]
pub struct ImageReference {
    /// The sender's name for the image, passed through to the event. Default: the id of the
    /// `CloudEvent` that carries the reference, else the `uri`.
    #[schemars(with = "Option<String>", length(min = 1, max = ID_CHARS_MAX))]
    pub id: String,
    /// Where the image is: `s3:`, `gs:`, `az:`, `http:`, `https:` or `file:`, within what the
    /// service is configured to read.
    #[schemars(length(min = 1, max = URI_CHARS_MAX))]
    pub uri: String,
    /// The version of the object that is meant; another one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ETAG_CHARS_MAX))]
    pub etag: Option<String>,
    /// SHA-256 of the image's bytes in hexadecimal; other bytes are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// The policy to judge by; default: the configured one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = POLICY_CHARS_MAX))]
    pub policy: Option<String>,
    /// Anything of the sender's, passed through to the event; at most 64 KiB of JSON and 1,024 values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// The trace that the reference came with; from headers, never in the JSON.
    #[serde(skip)]
    pub trace: Option<TraceContext>,
}

/// A record that is no reference. All of these are permanent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// A value beyond [`PAYLOAD_BYTES_MAX`].
    #[error("the value has {bytes} bytes, the limit is {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not JSON in UTF-8.
    #[error("the value is not JSON: {reason}")]
    InvalidJson {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// JSON, but no object.
    #[error("the reference is {found}, it must be a JSON object")]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// No `uri`.
    #[error("the reference has no uri")]
    MissingUri,
    /// A field of another type.
    #[error("{field} is {found}, it must be {expected}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A field that is there but empty.
    #[error("{field} is empty; leave it out or give it a value")]
    EmptyField {
        /// The field.
        field: &'static str,
    },
    /// A field beyond its limit.
    #[error("{field} is longer than {limit} {unit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its limit.
        limit: usize,
        /// What the limit counts.
        unit: &'static str,
    },
    /// A `sha256` that is not 64 hexadecimal digits.
    #[error("sha256 must be 64 hexadecimal digits")]
    InvalidSha256,
    /// A `CloudEvent` in a form that is not read here.
    #[error(
        "content-type {content_type:?} is not read; send application/cloudevents+json or application/json"
    )]
    UnsupportedContentType {
        /// The content type, cut to a readable length.
        content_type: String,
    },
    /// A `CloudEvent` of another major version than 1.
    #[error("CloudEvents specversion {version:?} is not read; send 1.0")]
    UnsupportedSpecVersion {
        /// The version, cut to a readable length.
        version: String,
    },
    /// A structured `CloudEvent` without data.
    #[error("the CloudEvent has neither data nor data_base64")]
    MissingData,
    /// A structured `CloudEvent` whose `data_base64` is no base64.
    #[error("data_base64 is not base64: {reason}")]
    InvalidBase64 {
        /// What the decoder says.
        reason: String,
    },
    /// A header that is needed and is not UTF-8.
    #[error("header {name} is not UTF-8")]
    HeaderValue {
        /// The header.
        name: &'static str,
    },
    /// A header whose name is not UTF-8.
    #[error("a header's name is not UTF-8: {name}")]
    HeaderName {
        /// The name with its bytes escaped, cut to a readable length.
        name: String,
    },
}

impl ReferenceError {
    /// Stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "reference.too_large",
            Self::InvalidJson { .. } => "reference.invalid_json",
            Self::NotAnObject { .. } => "reference.not_an_object",
            Self::MissingUri => "reference.missing_uri",
            Self::WrongType { .. } | Self::EmptyField { .. } => "reference.invalid_field",
            Self::TooLong { .. } => "reference.field_too_long",
            Self::InvalidSha256 => "reference.invalid_sha256",
            Self::UnsupportedContentType { .. } => "reference.unsupported_content_type",
            Self::UnsupportedSpecVersion { .. } => "reference.unsupported_specversion",
            Self::MissingData => "reference.missing_data",
            Self::InvalidBase64 { .. } => "reference.invalid_base64",
            Self::HeaderValue { .. } | Self::HeaderName { .. } => "reference.invalid_header",
        }
    }
}

impl ImageReference {
    /// A reference to what stands at a URI, named after it.
    pub fn new(uri: impl Into<String>) -> Self {
        let uri = uri.into();
        Self {
            id: uri.clone(),
            uri,
            etag: None,
            sha256: None,
            policy: None,
            metadata: None,
            trace: None,
        }
    }
}

/// Reads a reference out of a record: bare JSON, or a `CloudEvent` in binary or structured mode.
///
/// ```
/// use dog_iqa::event::{Headers, reference};
///
/// let payload = br#"{"uri": "s3://photos/cup.jpg", "metadata": {"listing": 4711}}"#;
/// let reference = reference::parse(&Headers::default(), payload)?;
/// assert_eq!(reference.id, "s3://photos/cup.jpg");
/// # Ok::<(), dog_iqa::event::ReferenceError>(())
/// ```
///
/// # Errors
/// A value that is too large, is not JSON, or is no reference; the message names the field.
pub fn parse(headers: &Headers, payload: &[u8]) -> Result<ImageReference, ReferenceError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(ReferenceError::TooLarge { bytes: payload.len() });
    }
    let Envelope { id, trace, data } = cloudevents::open(headers, payload)?;
    let Value::Object(mut fields) = data else {
        return Err(ReferenceError::NotAnObject { found: kind_of(&data) });
    };
    let uri = take_text(&mut fields, "uri", URI_CHARS_MAX)?.ok_or(ReferenceError::MissingUri)?;
    let id = take_text(&mut fields, "id", ID_CHARS_MAX)?.or(id);
    Ok(ImageReference {
        id: id.unwrap_or_else(|| uri.clone()),
        uri,
        etag: take_text(&mut fields, "etag", ETAG_CHARS_MAX)?,
        sha256: take_sha256(&mut fields)?,
        policy: take_text(&mut fields, "policy", POLICY_CHARS_MAX)?,
        metadata: take_metadata(&mut fields)?,
        trace,
    })
}

/// Reads JSON; one place for the words of its error.
pub(super) fn json(payload: &[u8]) -> Result<Value, ReferenceError> {
    serde_json::from_slice(payload)
        .map_err(|error| ReferenceError::InvalidJson { reason: error.to_string() })
}

/// Removes a text field; `null` counts as absent.
pub(super) fn take_text(
    fields: &mut Map<String, Value>,
    field: &'static str,
    chars_max: usize,
) -> Result<Option<String>, ReferenceError> {
    let text = match fields.remove(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => {
            let found = kind_of(&other);
            return Err(ReferenceError::WrongType { field, expected: "a string", found });
        }
    };
    if text.is_empty() {
        return Err(ReferenceError::EmptyField { field });
    }
    if text.chars().nth(chars_max).is_some() {
        return Err(ReferenceError::TooLong { field, limit: chars_max, unit: "characters" });
    }
    Ok(Some(text))
}

fn take_sha256(fields: &mut Map<String, Value>) -> Result<Option<String>, ReferenceError> {
    let text = take_text(fields, "sha256", PAYLOAD_BYTES_MAX)?;
    match text {
        Some(text) if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Err(ReferenceError::InvalidSha256)
        }
        Some(text) => Ok(Some(text.to_ascii_lowercase())),
        None => Ok(None),
    }
}

fn take_metadata(
    fields: &mut Map<String, Value>,
) -> Result<Option<Map<String, Value>>, ReferenceError> {
    let field = "metadata";
    let metadata = match fields.remove(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(metadata)) => metadata,
        Some(other) => {
            let found = kind_of(&other);
            return Err(ReferenceError::WrongType { field, expected: "an object", found });
        }
    };
    let bytes = serde_json::to_vec(&metadata).map_or(usize::MAX, |json| json.len());
    if bytes > METADATA_BYTES_MAX {
        return Err(ReferenceError::TooLong { field, limit: METADATA_BYTES_MAX, unit: "bytes" });
    }
    if metadata.values().map(values_in).sum::<usize>() > METADATA_VALUES_MAX {
        return Err(ReferenceError::TooLong { field, limit: METADATA_VALUES_MAX, unit: "values" });
    }
    Ok(Some(metadata))
}

/// A value and all those in it.
fn values_in(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(values_in).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(values_in).sum::<usize>(),
        _ => 1,
    }
}

/// A JSON value's type with its article.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
