//! The request to assess one image, and its parser.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::event::error::ReferenceError;
use crate::event::headers::Headers;
use crate::event::limits::{
    ETAG_CHARS_MAX, ID_CHARS_MAX, METADATA_BYTES_MAX, METADATA_VALUES_MAX, PAYLOAD_BYTES_MAX,
    POLICY_CHARS_MAX, URI_CHARS_MAX, VERSION_ID_CHARS_MAX,
};
use crate::event::metadata::Metadata;
use crate::event::reference::envelope::{self, Envelope};
use crate::event::reference::json::{kind_of, take_text};
use crate::event::reference::mistaken_fields;
use crate::event::trace::TraceContext;

/// A request to assess one image.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "ImageReference")]
pub struct ImageReference {
    /// The sender's name for the image, passed through to the event. Default: the id of the
    /// `CloudEvent` that carries the reference, else the `uri`.
    #[schemars(with = "Option<String>", length(min = 1, max = ID_CHARS_MAX))]
    pub id: String,
    /// Location of the image: `s3:`, `gs:`, `az:`, `http:`, `https:` or `file:`. The configuration
    /// of the service must allow it.
    #[schemars(length(min = 1, max = URI_CHARS_MAX))]
    pub uri: String,
    /// Required entity tag of the object. Another one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ETAG_CHARS_MAX))]
    pub etag: Option<String>,
    /// Version of the object to read instead of the current one, in a bucket with versions: the
    /// version id of S3 and Azure, the generation of Google.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = VERSION_ID_CHARS_MAX))]
    pub version_id: Option<String>,
    /// Required SHA-256 of the image's bytes, in hexadecimal. Other bytes are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// Policy that judges the image. Default: the configured one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = POLICY_CHARS_MAX))]
    pub policy: Option<String>,
    /// The sender's own data, passed through to the event. At most 64 KiB of JSON and 1,024
    /// values.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub metadata: Option<Metadata>,
    /// Fields that were ignored and look like a mistake, such as `url`. Never part of the JSON.
    #[serde(skip)]
    pub mistaken_fields: Vec<&'static str>,
    /// Trace of the request, from the headers. Never part of the JSON.
    #[serde(skip)]
    pub trace: Option<TraceContext>,
    /// Size of the object in bytes, as its store's notification declares it. Never part of the
    /// JSON.
    #[serde(skip)]
    pub declared_bytes: Option<u64>,
    /// True if the media type of the store's response decides if the object is an image, because
    /// its notification has none. Never part of the JSON.
    #[serde(skip)]
    pub judge_content_type: bool,
}

impl ImageReference {
    /// Creates a reference to the image at a URI, which is also its id.
    pub fn new(uri: impl Into<String>) -> Self {
        let uri = uri.into();
        Self {
            id: uri.clone(),
            uri,
            etag: None,
            version_id: None,
            sha256: None,
            policy: None,
            metadata: None,
            mistaken_fields: Vec::new(),
            trace: None,
            declared_bytes: None,
            judge_content_type: false,
        }
    }
}

/// Parses a record: bare JSON, or a `CloudEvent` in binary or structured mode.
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
/// Fails if the value is too large, is not JSON, or is no reference. The message names the field.
pub fn parse(headers: &Headers, payload: &[u8]) -> Result<ImageReference, ReferenceError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(ReferenceError::TooLarge { bytes: payload.len() });
    }
    of_envelope(envelope::open(headers, payload)?)
}

/// Parses the data of an envelope.
pub(crate) fn of_envelope(envelope: Envelope<'_>) -> Result<ImageReference, ReferenceError> {
    let Envelope { id, trace, data, text, .. } = envelope;
    let Value::Object(mut fields) = data else {
        return Err(ReferenceError::NotAnObject { found: kind_of(&data) });
    };
    let Some(uri) = take_text(&mut fields, "uri", URI_CHARS_MAX)? else {
        let instead = mistaken_fields::instead_of_uri(&fields);
        return Err(ReferenceError::MissingUri { instead });
    };
    let id = take_text(&mut fields, "id", ID_CHARS_MAX)?.or(id);
    Ok(ImageReference {
        id: id.unwrap_or_else(|| uri.clone()),
        uri,
        etag: take_text(&mut fields, "etag", ETAG_CHARS_MAX)?,
        version_id: take_text(&mut fields, "version_id", VERSION_ID_CHARS_MAX)?,
        sha256: take_sha256(&mut fields)?,
        policy: take_text(&mut fields, "policy", POLICY_CHARS_MAX)?,
        metadata: take_metadata(&mut fields, &text)?,
        mistaken_fields: mistaken_fields::find(&fields)?,
        trace,
        declared_bytes: None,
        judge_content_type: false,
    })
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

/// Removes the metadata, and returns them as `text`, the JSON of the reference, has them.
fn take_metadata(
    fields: &mut Map<String, Value>,
    text: &[u8],
) -> Result<Option<Metadata>, ReferenceError> {
    let field = "metadata";
    let metadata = match fields.remove(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(metadata)) => metadata,
        Some(other) => {
            let found = kind_of(&other);
            return Err(ReferenceError::WrongType { field, expected: "an object", found });
        }
    };
    let texts: BTreeMap<String, &RawValue> = serde_json::from_slice(text)
        .map_err(|error| ReferenceError::InvalidJson { reason: error.to_string() })?;
    let copied = texts.get(field).map(|text| Metadata::copy(text));
    if copied.as_ref().is_some_and(|copied| copied.as_str().len() > METADATA_BYTES_MAX) {
        return Err(ReferenceError::TooLong { field, limit: METADATA_BYTES_MAX, unit: "bytes" });
    }
    if metadata.values().map(values_in).sum::<usize>() > METADATA_VALUES_MAX {
        return Err(ReferenceError::TooLong { field, limit: METADATA_VALUES_MAX, unit: "values" });
    }
    Ok(copied)
}

/// Counts a value and all values within it.
fn values_in(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(values_in).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(values_in).sum::<usize>(),
        _ => 1,
    }
}
