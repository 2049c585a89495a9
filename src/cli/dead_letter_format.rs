//! Formats dead letters as table lines and as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use crate::cli::terminal::print_status;
use crate::event::dead_letter::is_reason_header;
use crate::redact::{self, printable};
use crate::stream::DeadLetter;

/// Returns the column titles.
pub(crate) fn header() -> String {
    row(["time", "code", "stage", "tries", "from"], "reference", "message")
}

/// Returns the table line of a dead letter: time, error, origin, reference.
pub(crate) fn line(letter: &DeadLetter) -> String {
    let reason = &letter.reason;
    let time = reason.time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (tries, origin) = (reason.attempts.to_string(), letter.origin());
    let columns = [&time, &reason.code, &reason.stage, &tries, &origin];
    row(columns.map(String::as_str), &name(letter), &reason.message)
}

/// Returns a line for a table of quality events, whose first column is the score.
pub(crate) fn line_in_event_table(letter: &DeadLetter) -> String {
    let reason = &letter.reason;
    printable(&format!("{:>6}  {}  {}: {}", "-", reason.code, name(letter), reason.message))
}

/// Prints the number of skipped records that this service did not write, unless it is 0.
pub(crate) fn print_foreign_count(count: u64) {
    if count > 0 {
        print_status(&format!("records that are no dead letters of this service: {count}"));
    }
}

/// Returns the name of the dead letter without the secrets that a URI may contain.
pub(crate) fn name(letter: &DeadLetter) -> String {
    redact::id(&letter.name()).into_owned()
}

fn row([time, code, stage, tries, from]: [&str; 5], reference: &str, message: &str) -> String {
    printable(&format!(
        "{time:<20}  {code:<24}  {stage:<9}  {tries:>5}  {from:<24}  {reference:<24}  {message}"
    ))
}

/// Returns the whole dead letter: its offset, the error, and the original record. Bytes that are
/// not UTF-8 become base64 in a field whose name ends in `_base64`.
pub(crate) fn json(letter: &DeadLetter) -> Value {
    let reason = &letter.reason;
    let mut object = Map::new();
    object.insert("partition".to_owned(), letter.partition.into());
    object.insert("offset".to_owned(), letter.offset.into());
    let written_at = letter
        .timestamp_ms
        .and_then(DateTime::from_timestamp_millis)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
    object.insert("time".to_owned(), written_at.into());
    let error = json!({
        "code": reason.code,
        "message": reason.message,
        "stage": reason.stage,
        "attempts": reason.attempts,
        "time": reason.time.to_rfc3339_opts(SecondsFormat::Millis, true),
        "group": reason.group,
        "version": reason.version,
        "original": reason.original,
        "left_out": letter.left_out,
    });
    object.insert("error".to_owned(), error);
    object.insert("replays".to_owned(), letter.replays.into());
    let reference =
        letter.reference().map(|reference| json!({"id": reference.id, "uri": reference.uri}));
    object.insert("reference".to_owned(), reference.into());
    insert_bytes(&mut object, "key", letter.key.as_deref());
    insert_bytes(&mut object, "value", letter.payload.as_deref());
    let original = letter.headers.iter().filter(|(name, _)| !is_reason_header(name));
    let headers = original.map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".to_owned(), name.into());
        insert_bytes(&mut header, "value", value);
        Value::Object(header)
    });
    object.insert("headers".to_owned(), headers.collect::<Vec<_>>().into());
    Value::Object(object)
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => object
            .insert(format!("{name}_base64"), bytes.map(|bytes| STANDARD.encode(bytes)).into()),
    };
}
