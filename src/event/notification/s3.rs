//! Events of Amazon S3 and compatible stores (`MinIO`, Ceph, Versity), those of S3 that
//! `EventBridge` forwards, and those of R2.
//!
//! Sources: "Event message structure" and "`EventBridge` event message structure" of the Amazon S3
//! User Guide; "Event notifications" of Cloudflare R2. Keys are encoded like a form in the first,
//! and literal in the others.

use serde_json::Value;

use crate::event::error::ReferenceError;
use crate::event::limits::{ETAG_CHARS_MAX, URI_CHARS_MAX, VERSION_ID_CHARS_MAX};
use crate::event::notification::entry::{CreatedObject, Entry, SkipReason};
use crate::event::notification::fields::{
    Fields, as_object, object, required_text, text, whole_number,
};
use crate::event::notification::object_key::{decoded_form, uri};
use crate::event::notification::sequencer::Sequencer;
use crate::event::reference::ImageReference;

/// Longest bucket name, event name, media type or sequencer, in characters.
const NAME_CHARS_MAX: usize = 1024;

/// The kinds of events.
enum Kind {
    Created,
    Removed,
    Test,
    Other,
}

/// Parses an element of `Records`.
pub(crate) fn record(record: &Value) -> Result<Entry, ReferenceError> {
    let fields = as_object(record, "Records")?;
    let name = required_text(fields, "eventName", NAME_CHARS_MAX)?;
    let name = name.strip_prefix("s3:").unwrap_or(&name);
    let kind = match name.split(':').next().unwrap_or_default() {
        "ObjectCreated" => Kind::Created,
        "ObjectRemoved" | "LifecycleExpiration" => Kind::Removed,
        "TestEvent" => Kind::Test,
        _ => Kind::Other,
    };
    entry(&kind, || object_of_record(fields))
}

/// Parses an event of `EventBridge`.
pub(crate) fn bridged(event: &Fields) -> Result<Entry, ReferenceError> {
    let kind = match required_text(event, "detail-type", NAME_CHARS_MAX)?.as_str() {
        "Object Created" => Kind::Created,
        "Object Deleted" => Kind::Removed,
        _ => Kind::Other,
    };
    entry(&kind, || object_of_detail(event))
}

/// Parses an event of R2.
pub(crate) fn flat(event: &Fields) -> Result<Entry, ReferenceError> {
    let kind = match required_text(event, "action", NAME_CHARS_MAX)?.as_str() {
        "PutObject" | "CopyObject" | "CompleteMultipartUpload" => Kind::Created,
        "DeleteObject" | "LifecycleDeletion" => Kind::Removed,
        _ => Kind::Other,
    };
    entry(&kind, || {
        let bucket = required_text(event, "bucket", NAME_CHARS_MAX)?;
        let object = object(event, "object")?;
        let key = required_text(object, "object.key", URI_CHARS_MAX)?;
        let reference = ImageReference {
            etag: text(object, "object.eTag", ETAG_CHARS_MAX)?,
            declared_bytes: whole_number(object, "object.size")?,
            ..ImageReference::new(uri("s3", &bucket, &key)?)
        };
        Ok(CreatedObject { reference, key, content_type: None, account: None, sequencer: None })
    })
}

/// Returns true if an object is an element of `Records`.
pub(crate) fn is_record(fields: &Fields) -> bool {
    let is_text = |name: &str| fields.get(name).is_some_and(Value::is_string);
    fields.get("s3").is_some_and(Value::is_object)
        && (is_text("eventName") || is_text("eventSource"))
}

/// Returns true if an object is an event of R2.
pub(crate) fn is_flat(fields: &Fields) -> bool {
    let is_text = |name: &str| fields.get(name).is_some_and(Value::is_string);
    is_text("action") && is_text("bucket") && fields.get("object").is_some_and(Value::is_object)
}

fn entry(
    kind: &Kind,
    parse: impl FnOnce() -> Result<CreatedObject, ReferenceError>,
) -> Result<Entry, ReferenceError> {
    match kind {
        Kind::Created => Ok(Entry::Object(Box::new(parse()?))),
        Kind::Removed => {
            let object = parse().ok();
            let removed = object.and_then(|object| Some((object.reference.uri, object.sequencer?)));
            Ok(Entry::Skipped { reason: SkipReason::Removed, removed })
        }
        Kind::Test => Ok(Entry::skipped(SkipReason::Test)),
        Kind::Other => Ok(Entry::skipped(SkipReason::OtherEvent)),
    }
}

fn object_of_record(record: &Fields) -> Result<CreatedObject, ReferenceError> {
    let s3 = object(record, "s3")?;
    let bucket_fields = object(s3, "s3.bucket")?;
    let bucket = required_text(bucket_fields, "s3.bucket.name", NAME_CHARS_MAX)?;
    let object = object(s3, "s3.object")?;
    let key = required_text(object, "s3.object.key", 3 * URI_CHARS_MAX)?;
    let arn = bucket_fields.get("arn").and_then(Value::as_str).unwrap_or_default();
    let key = if is_literal(&key, &bucket, arn) { key } else { decoded_form(&key)? };
    let reference = ImageReference {
        etag: text(object, "s3.object.eTag", ETAG_CHARS_MAX)?,
        version_id: text(object, "s3.object.versionId", VERSION_ID_CHARS_MAX)?,
        declared_bytes: whole_number(object, "s3.object.size")?,
        ..ImageReference::new(uri("s3", &bucket, &key)?)
    };
    let sequencer = text(object, "s3.object.sequencer", NAME_CHARS_MAX)?;
    Ok(CreatedObject {
        reference,
        key,
        content_type: text(object, "s3.object.contentType", NAME_CHARS_MAX)?,
        account: None,
        sequencer: sequencer.and_then(|text| Sequencer::of_text(&text)),
    })
}

fn object_of_detail(event: &Fields) -> Result<CreatedObject, ReferenceError> {
    let detail = object(event, "detail")?;
    let bucket = object(detail, "detail.bucket")?;
    let bucket = required_text(bucket, "detail.bucket.name", NAME_CHARS_MAX)?;
    let object = object(detail, "detail.object")?;
    let key = required_text(object, "detail.object.key", URI_CHARS_MAX)?;
    let reference = ImageReference {
        etag: text(object, "detail.object.etag", ETAG_CHARS_MAX)?,
        version_id: text(object, "detail.object.version-id", VERSION_ID_CHARS_MAX)?,
        declared_bytes: whole_number(object, "detail.object.size")?,
        ..ImageReference::new(uri("s3", &bucket, &key)?)
    };
    let sequencer = text(object, "detail.object.sequencer", NAME_CHARS_MAX)?;
    Ok(CreatedObject {
        reference,
        key,
        content_type: None,
        account: None,
        sequencer: sequencer.and_then(|text| Sequencer::of_text(&text)),
    })
}

/// Returns true if a key is not encoded. Versity's gateway writes literal keys, and repeats them in
/// the name of the bucket's resource, which ends with the bucket elsewhere. No encoder leaves a
/// space.
fn is_literal(key: &str, bucket: &str, arn: &str) -> bool {
    let is_repeated = || {
        let before = arn.strip_suffix(key).and_then(|before| before.strip_suffix('/'));
        before.is_some_and(|before| before.ends_with(&format!("/{bucket}")))
    };
    key.contains(' ') || is_repeated()
}
