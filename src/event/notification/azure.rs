//! Blob events of Azure Event Grid, in its own schema or in that of `CloudEvents`.
//!
//! Source: "Azure Blob Storage as an Event Grid source". The blob is named by its URL,
//! `https://<account>.blob.core.windows.net/<container>/<blob>`, which is percent-encoded. The URL
//! of a blob in the root container may leave it out; an account may have a DNS zone (`.z01.blob.`).

use serde_json::Value;

use crate::event::error::ReferenceError;
use crate::event::limits::{ETAG_CHARS_MAX, URI_CHARS_MAX};
use crate::event::notification::entry::{CreatedObject, Entry, SkipReason};
use crate::event::notification::fields::{
    Fields, as_object, object, required_text, text, whole_number,
};
use crate::event::notification::object_key::{decoded, uri};
use crate::event::notification::sequencer::Sequencer;
use crate::event::reference::ImageReference;

const NAME_CHARS_MAX: usize = 1024;
/// Prefix of the types of events about blobs, and of those about subscriptions.
pub(crate) const TYPE_PREFIXES: [&str; 2] = ["Microsoft.Storage.", "Microsoft.EventGrid."];
/// Operations that end before the blob has its content. `FlushWithClose` or `SftpCommit` follows.
const INCOMPLETE: [&str; 3] = ["CreateFile", "CreateFilePath", "SftpCreate"];
/// The container of blobs whose URL names none.
const ROOT_CONTAINER: &str = "$root";

/// Parses an event in the schema of Event Grid.
pub(crate) fn grid_event(event: &Value) -> Result<Entry, ReferenceError> {
    let event = as_object(event, "the event")?;
    let kind = required_text(event, "eventType", NAME_CHARS_MAX)?;
    of_type(&kind, || object(event, "data"))
}

/// Parses the data of a `CloudEvent` of this type.
pub(crate) fn cloud_event(kind: &str, data: &Value) -> Result<Entry, ReferenceError> {
    of_type(kind, || as_object(data, "data"))
}

/// Returns true if the type of an event is one of Azure.
pub(crate) fn is_type(kind: &str) -> bool {
    TYPE_PREFIXES.iter().any(|prefix| kind.starts_with(prefix))
}

/// Returns true if an object is an event in the schema of Event Grid.
pub(crate) fn is_grid_event(fields: &Fields) -> bool {
    fields.get("eventType").and_then(Value::as_str).is_some_and(is_type)
}

fn of_type<'a>(
    kind: &str,
    data: impl FnOnce() -> Result<&'a Fields, ReferenceError>,
) -> Result<Entry, ReferenceError> {
    match kind {
        "Microsoft.Storage.BlobCreated" => {
            let data = data()?;
            let operation = text(data, "data.api", NAME_CHARS_MAX)?.unwrap_or_default();
            if INCOMPLETE.contains(&operation.as_str()) {
                return Ok(Entry::skipped(SkipReason::OtherEvent));
            }
            Ok(Entry::Object(Box::new(object_of(data)?)))
        }
        "Microsoft.Storage.BlobDeleted" => {
            let object = data().and_then(object_of).ok();
            let removed = object.and_then(|object| Some((object.reference.uri, object.sequencer?)));
            Ok(Entry::Skipped { reason: SkipReason::Removed, removed })
        }
        "Microsoft.EventGrid.SubscriptionValidationEvent" => Ok(Entry::skipped(SkipReason::Test)),
        _ => Ok(Entry::skipped(SkipReason::OtherEvent)),
    }
}

fn object_of(data: &Fields) -> Result<CreatedObject, ReferenceError> {
    let url = required_text(data, "data.url", 3 * URI_CHARS_MAX)?;
    let (account, container, key) = parts_of(&url).ok_or(ReferenceError::InvalidBlobUrl)?;
    let key = decoded(key)?;
    if key.is_empty() {
        return Err(ReferenceError::InvalidBlobUrl);
    }
    let reference = ImageReference {
        etag: text(data, "data.eTag", ETAG_CHARS_MAX)?,
        declared_bytes: whole_number(data, "data.contentLength")?,
        ..ImageReference::new(uri("az", &decoded(container)?, &key)?)
    };
    let sequencer = text(data, "data.sequencer", NAME_CHARS_MAX)?;
    Ok(CreatedObject {
        reference,
        key,
        content_type: text(data, "data.contentType", NAME_CHARS_MAX)?,
        account: Some(account.to_owned()),
        sequencer: sequencer.and_then(|text| Sequencer::of_text(&text)),
    })
}

/// Splits the URL of a blob into its account, container and encoded name.
fn parts_of(url: &str) -> Option<(&str, &str, &str)> {
    let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
    let (account, service) = host.split_once('.')?;
    let service = without_zone(service);
    let is_blob = service.starts_with("blob.");
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let (container, key) = match path.split_once('/') {
        None if is_blob => (ROOT_CONTAINER, path),
        parts => parts?,
    };
    let is_blob_service = is_blob || service.starts_with("dfs.");
    (is_blob_service && !account.is_empty() && !container.is_empty())
        .then_some((account, container, key))
}

/// Removes the DNS zone, `z` and two digits, of an account with such an endpoint.
fn without_zone(service: &str) -> &str {
    let is_zone = |label: &str| {
        label.strip_prefix('z').is_some_and(|digits| {
            digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    match service.split_once('.') {
        Some((zone, rest)) if is_zone(zone) => rest,
        _ => service,
    }
}
