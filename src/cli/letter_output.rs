//! Dead letters, as lines for people and as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use crate::cli::output::complain;
use crate::event::dead_letter::is_reason_header;
use crate::redact::{self, printable};
use crate::stream::DeadLetter;

/// The column titles.
pub(super) fn header() -> String {
    row(["time", "code", "stage", "tries", "from"], "reference", "message")
}

/// When and why it ended there, and what it is.
pub(super) fn line(letter: &DeadLetter) -> String {
    let reason = &letter.reason;
    let time = reason.time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (tries, origin) = (reason.attempts.to_string(), letter.origin());
    let columns = [&time, &reason.code, &reason.stage, &tries, &origin];
    row(columns.map(String::as_str), &name(letter), &reason.message)
}

/// A dead letter among events, whose first column is the score.
pub(super) fn line_among_events(letter: &DeadLetter) -> String {
    let reason = &letter.reason;
    printable(&format!("{:>6}  {}  {}: {}", "-", reason.code, name(letter), reason.message))
}

/// Says how many records of the topic were left out, if any were.
pub(super) fn tell_foreign(count: u64) {
    if count > 0 {
        complain(&format!("records that are no dead letters of this service: {count}"));
    }
}

/// What it is called, without the secrets that an address may hold.
pub(super) fn name(letter: &DeadLetter) -> String {
    redact::id(&letter.name()).into_owned()
}

fn row([time, code, stage, tries, from]: [&str; 5], reference: &str, message: &str) -> String {
    printable(&format!(
        "{time:<20}  {code:<24}  {stage:<9}  {tries:>5}  {from:<24}  {reference:<24}  {message}"
    ))
}

/// All of it: where it lies, why, and the record as it came. Text stands as text, other bytes as
/// base64 under a name of their own.
pub(super) fn json(letter: &DeadLetter) -> Value {
    let reason = &letter.reason;
    let mut shown = Map::new();
    shown.insert("partition".to_owned(), letter.partition.into());
    shown.insert("offset".to_owned(), letter.offset.into());
    let time = letter.timestamp_ms.and_then(DateTime::from_timestamp_millis);
    let time = time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
    shown.insert("time".to_owned(), time.into());
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
    shown.insert("error".to_owned(), error);
    shown.insert("replays".to_owned(), letter.replays.into());
    let reference = letter.reference();
    let reference = reference.map(|reference| json!({"id": reference.id, "uri": reference.uri}));
    shown.insert("reference".to_owned(), reference.into());
    insert_bytes(&mut shown, "key", letter.key.as_deref());
    insert_bytes(&mut shown, "value", letter.payload.as_deref());
    let own = letter.headers.iter().filter(|(name, _)| !is_reason_header(name));
    let own = own.map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".to_owned(), name.into());
        insert_bytes(&mut header, "value", value);
        Value::Object(header)
    });
    shown.insert("headers".to_owned(), own.collect::<Vec<_>>().into());
    Value::Object(shown)
}

fn insert_bytes(shown: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(str::from_utf8) {
        None => shown.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => shown.insert(name.to_owned(), text.into()),
        Some(Err(_)) => {
            shown.insert(format!("{name}_base64"), bytes.map(|bytes| STANDARD.encode(bytes)).into())
        }
    };
}
