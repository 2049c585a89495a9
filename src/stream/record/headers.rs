//! Kafka headers: reading them without a panic, and carrying them byte for byte.
//!
//! Names of headers are bytes on the wire, and rdkafka panics on one that is not UTF-8. So they are
//! read under `catch_unwind`, and carried as librdkafka's own copy, which keeps any bytes.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use rdkafka::message::{Header, Headers as _, OwnedHeaders};

use crate::event::dead_letter;

/// A header's name and value; values may be null.
pub(crate) type Pair = (String, Option<Vec<u8>>);

/// Reads all headers in order.
///
/// # Errors
/// The position of the first header whose name is not UTF-8.
pub(crate) fn read(headers: Option<&OwnedHeaders>) -> Result<Vec<Pair>, usize> {
    let pairs = all(headers).into_iter().enumerate();
    pairs.map(|(index, pair)| pair.ok_or(index)).collect()
}

/// Reads the headers whose names are UTF-8, in order.
pub(crate) fn readable(headers: Option<&OwnedHeaders>) -> Vec<Pair> {
    all(headers).into_iter().flatten().collect()
}

/// Every header in order, none for one whose name is not UTF-8.
fn all(headers: Option<&OwnedHeaders>) -> Vec<Option<Pair>> {
    let Some(headers) = headers else { return Vec::new() };
    let pair = |index| {
        let pair = panic::catch_unwind(AssertUnwindSafe(|| {
            let header = headers.get(index);
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        }));
        pair.ok()
    };
    quietly(|| (0..headers.count()).map(pair).collect())
}

/// The headers of a dead letter: the record's own, untouched, then the reason.
///
/// A reason that the record brought along (it was a dead letter before) is replaced. It cannot be
/// taken out where a name is not UTF-8; readers take the last of equal names, which is ours.
pub(crate) fn with_reason(
    original: Option<&OwnedHeaders>,
    reason: &[(String, String)],
) -> OwnedHeaders {
    append(without(original, dead_letter::is_reason_header), reason)
}

/// The headers of a replay: the record's own, untouched, without the reason, then how often it was
/// sent again. What cannot be taken out stays, as in [`with_reason`].
pub(crate) fn for_replay(original: Option<&OwnedHeaders>, replays: u64) -> OwnedHeaders {
    let counted = dead_letter::REPLAY_COUNT_HEADER;
    let kept = without(original, |name| dead_letter::is_reason_header(name) || name == counted);
    append(kept, &[(counted.to_owned(), replays.to_string())])
}

/// The headers but those of certain names, if all names can be read; else all.
fn without(headers: Option<&OwnedHeaders>, is_left_out: impl Fn(&str) -> bool) -> OwnedHeaders {
    match read(headers) {
        Ok(pairs) if pairs.iter().any(|(name, _)| is_left_out(name)) => {
            let kept = pairs.into_iter().filter(|(name, _)| !is_left_out(name));
            kept.fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: &name, value: value.as_ref() })
            })
        }
        _ => headers.cloned().unwrap_or_default(),
    }
}

/// Adds text headers at the end.
pub(crate) fn append(headers: OwnedHeaders, pairs: &[(String, String)]) -> OwnedHeaders {
    pairs.iter().fold(headers, |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    })
}

thread_local! {
    static EXPECTS_A_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read` without a report of the panics it catches: anybody who may write to the topic could
/// fill the log with them.
fn quietly<T>(read: impl FnOnce() -> T) -> T {
    static FILTER: Once = Once::new();
    FILTER.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTS_A_PANIC.get() {
                report(info);
            }
        }));
    });
    EXPECTS_A_PANIC.set(true);
    let result = read();
    EXPECTS_A_PANIC.set(false);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, Option<&str>)]) -> OwnedHeaders {
        pairs.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: *value })
        })
    }

    fn names(headers: &OwnedHeaders) -> Vec<String> {
        read(Some(headers)).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn headers_are_read_in_order_with_null_values() {
        let read = read(Some(&headers(&[("b", Some("2")), ("a", None), ("b", Some(""))]))).unwrap();
        let expected = [("b", Some("2")), ("a", None), ("b", Some(""))];
        let expected =
            expected.map(|(name, value)| (name.to_owned(), value.map(|v| v.as_bytes().to_vec())));
        assert_eq!(read, expected);
    }

    #[test]
    fn a_second_failure_replaces_the_first_reason() {
        let first = with_reason(
            Some(&headers(&[("tenant", Some("a")), ("nothing", None)])),
            &[("dogiqa.error.code".to_owned(), "fetch.timeout".to_owned())],
        );
        assert_eq!(names(&first), ["tenant", "nothing", "dogiqa.error.code"]);
        let second = with_reason(
            Some(&first),
            &[("dogiqa.error.code".to_owned(), "decode.truncated".to_owned())],
        );
        let pairs = read(Some(&second)).unwrap();
        assert_eq!(pairs.len(), 3);
        assert_eq!(pairs[1], ("nothing".to_owned(), None));
        assert_eq!(pairs[2].1.as_deref(), Some(b"decode.truncated".as_slice()));
    }

    #[test]
    fn a_replay_takes_the_reason_out_and_counts() {
        let letter = headers(&[
            ("dogiqa.replay.count", Some("1")),
            ("tenant", Some("a")),
            ("dogiqa.error.code", Some("fetch.timeout")),
        ]);
        let pairs = read(Some(&for_replay(Some(&letter), 2))).unwrap();
        let expected = [("tenant", "a"), ("dogiqa.replay.count", "2")];
        let expected = expected.map(|(name, value)| (name.to_owned(), Some(value.into())));
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_record_without_headers_gets_only_the_reason() {
        let reason = [("dogiqa.error.code".to_owned(), "reference.missing_uri".to_owned())];
        assert_eq!(names(&with_reason(None, &reason)), ["dogiqa.error.code"]);
    }
}
