//! Counts the entries of a record before it is parsed, so that all of them are admitted together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::event::limits::{OBJECTS_MAX, PAYLOAD_BYTES_MAX};
use crate::event::reference::frame::without_frame;

/// Name of the list of entries in a record of S3.
pub(crate) const RECORDS: &str = "Records";

/// Returns an upper bound for the entries of a record, from 1 to [`OBJECTS_MAX`]. Builds no JSON
/// value, because the polling thread calls it.
pub fn count_objects(payload: &[u8]) -> usize {
    // Most references have no list. A value that is too large has one answer: its dead letter.
    if payload.len() > PAYLOAD_BYTES_MAX || memchr::memchr(b'[', payload).is_none() {
        return 1;
    }
    // So has a value that cannot be parsed.
    entries(payload).unwrap_or(1).clamp(1, OBJECTS_MAX)
}

fn entries(payload: &[u8]) -> Option<usize> {
    let json = without_frame(payload).ok()?;
    if json.trim_ascii_start().starts_with(b"[") {
        return length(json);
    }
    // Of equal names, the last one counts, as in the parser.
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(json).ok()?;
    length(fields.get(RECORDS)?.get().as_bytes())
}

fn length(list: &[u8]) -> Option<usize> {
    let elements: Vec<IgnoredAny> = serde_json::from_slice(list).ok()?;
    Some(elements.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_of_entries_is_counted() {
        assert_eq!(count_objects(b"{\"Records\": [{}, {}, {}]}"), 3);
        assert_eq!(count_objects(b"{\"\\u0052ecords\": [1, 2]}"), 2);
        assert_eq!(count_objects(b"{\"Records\": [1], \"Records\": [1, 2, 3]}"), 3);
        assert_eq!(count_objects(b"\xEF\xBB\xBF [{}, {}]"), 2);
        assert_eq!(count_objects(b"\0\0\0\0\x07{\"Records\": [{}, {}]}"), 2);
    }

    #[test]
    fn any_other_value_counts_as_one_and_a_long_list_as_the_limit() {
        for payload in [
            &b""[..],
            b"{\"uri\": \"s3://a/b\"}",
            b"{\"Records\": []}",
            b"{\"Records\": {\"a\": 1}}",
            b"{\"Records\": [1, 2",
            b"[1, 2",
            b"7",
            b"\xff",
        ] {
            assert_eq!(count_objects(payload), 1, "{payload:?}");
        }
        let long = format!("{{\"Records\": [{}1]}}", "1,".repeat(10_000));
        assert_eq!(count_objects(long.as_bytes()), OBJECTS_MAX);
        let deep = "[".repeat(100_000);
        assert_eq!(count_objects(deep.as_bytes()), 1);
    }
}
