//! The error of a record that is not a valid reference.

use thiserror::Error;

use crate::event::limits::PAYLOAD_BYTES_MAX;

/// A record that is not a valid reference. None of these errors is transient.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// The value is longer than [`PAYLOAD_BYTES_MAX`].
    #[error("the value has {bytes} bytes, the limit is {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Length of the value in bytes.
        bytes: usize,
    },
    /// The value is not JSON in UTF-8.
    #[error("the value is not JSON: {reason}")]
    InvalidJson {
        /// The parser's message, with line and column.
        reason: String,
    },
    /// The value has the frame of a schema registry, and no JSON behind it.
    #[error(
        "the value has the frame of the {registry} schema registry (schema {schema}), and no JSON \
         object follows; send plain JSON, or use the registry's serializer for JSON without \
         compression"
    )]
    SchemaFrame {
        /// The registry.
        registry: &'static str,
        /// Id of the schema.
        schema: String,
    },
    /// The value is JSON, but no object.
    #[error("the reference is {found}, it must be a JSON object")]
    NotAnObject {
        /// Type of the value.
        found: &'static str,
    },
    /// An element of a list of events is none.
    #[error(
        "the list's element is {found}, not an event of a store or a CloudEvent; send references \
         alone"
    )]
    NotAnEvent {
        /// Type of the element.
        found: &'static str,
    },
    /// The `uri` is missing.
    #[error("the reference has no uri{}", meant(.instead.as_ref()))]
    MissingUri {
        /// A field that was probably meant as `uri`.
        instead: Option<String>,
    },
    /// A misspelt `version_id`, which must not be ignored.
    #[error(
        "{field} is not a field of a reference, and the latest version would be assessed instead; \
         the field is `version_id`"
    )]
    UnsupportedField {
        /// The field, shortened.
        field: String,
    },
    /// A field has the wrong type.
    #[error("{field} is {found}, it must be {expected}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// The expected type.
        expected: &'static str,
        /// Type of the field.
        found: &'static str,
    },
    /// A field is present but empty.
    #[error("{field} is empty; leave it out or give it a value")]
    EmptyField {
        /// The field.
        field: &'static str,
    },
    /// A notification lacks a field.
    #[error("the notification has no {field}")]
    MissingField {
        /// Path of the field.
        field: &'static str,
    },
    /// The bucket or container of a notification is no plain name.
    #[error("the notification's bucket is not a plain name")]
    InvalidBucket,
    /// The URL of a blob does not name an account, a container and a blob.
    #[error("data.url is not https://<account>.blob.<domain>/<container>/<blob>")]
    InvalidBlobUrl,
    /// The encoded key of a notification cannot be decoded.
    #[error("the notification's key cannot be decoded: {reason}")]
    InvalidKey {
        /// The fault.
        reason: &'static str,
    },
    /// A record has too many objects.
    #[error("the record has {objects} objects, the limit is {limit}; split it")]
    TooManyObjects {
        /// Number of objects.
        objects: usize,
        /// The limit.
        limit: usize,
    },
    /// The record has another format than the configured one.
    #[error("the record does not have the format `{expected}` of kafka.input_format")]
    UnexpectedFormat {
        /// The configured format.
        expected: &'static str,
    },
    /// A field exceeds its limit.
    #[error("{field} is longer than {limit} {unit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The limit.
        limit: usize,
        /// Unit of the limit.
        unit: &'static str,
    },
    /// The `sha256` is not 64 hexadecimal digits.
    #[error("sha256 must be 64 hexadecimal digits")]
    InvalidSha256,
    /// The `CloudEvent` has an unsupported format.
    #[error(
        "content-type {content_type:?} is not supported; send application/cloudevents+json or application/json"
    )]
    UnsupportedContentType {
        /// The content type, shortened.
        content_type: String,
    },
    /// The major version of the `CloudEvent` is not 1.
    #[error("CloudEvents specversion {version:?} is not supported; send 1.0")]
    UnsupportedSpecVersion {
        /// The version, shortened.
        version: String,
    },
    /// A structured `CloudEvent` has no data.
    #[error("the CloudEvent has neither data nor data_base64")]
    MissingData,
    /// The `data_base64` of a structured `CloudEvent` is not base64.
    #[error("data_base64 is not base64: {reason}")]
    InvalidBase64 {
        /// The decoder's message.
        reason: String,
    },
    /// A required header is not UTF-8.
    #[error("header {name} is not UTF-8")]
    HeaderValue {
        /// The header.
        name: &'static str,
    },
    /// The name of a header is not UTF-8.
    #[error("a header's name is not UTF-8: {name}")]
    HeaderName {
        /// Position of the header, because its name cannot be shown.
        name: String,
    },
}

impl ReferenceError {
    /// Returns the stable code for dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "reference.too_large",
            Self::InvalidJson { .. } => "reference.invalid_json",
            Self::NotAnObject { .. } | Self::NotAnEvent { .. } => "reference.not_an_object",
            Self::SchemaFrame { .. } => "reference.unsupported_encoding",
            Self::MissingUri { .. } => "reference.missing_uri",
            Self::UnsupportedField { .. } => "reference.unsupported_field",
            Self::WrongType { .. }
            | Self::EmptyField { .. }
            | Self::MissingField { .. }
            | Self::InvalidBucket
            | Self::InvalidBlobUrl => "reference.invalid_field",
            Self::InvalidKey { .. } => "reference.invalid_key",
            Self::TooManyObjects { .. } => "reference.too_many_objects",
            Self::UnexpectedFormat { .. } => "reference.unexpected_format",
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

fn meant(instead: Option<&String>) -> String {
    instead.map_or_else(String::new, |field| format!("; rename {field:?}, or build a uri from it"))
}
