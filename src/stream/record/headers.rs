//! Reads Kafka headers without a panic and copies them byte for byte.
//!
//! Header names are bytes on the wire, and rdkafka panics on a name that is not UTF-8. Headers are
//! therefore read under `catch_unwind`, and copied in librdkafka's own format, which keeps any
//! bytes.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use rdkafka::message::{Header, Headers as _, OwnedHeaders};

use crate::event::dead_letter;

/// Name and value of a header. The value may be null.
pub(crate) type HeaderPair = (String, Option<Vec<u8>>);

/// Reads all headers in order.
///
/// # Errors
/// Fails if a name is not UTF-8; the error is the index of the first such header.
pub(crate) fn read(headers: Option<&OwnedHeaders>) -> Result<Vec<HeaderPair>, usize> {
    let pairs = read_all(headers).into_iter().enumerate();
    pairs.map(|(index, pair)| pair.ok_or(index)).collect()
}

/// Reads the headers whose names are UTF-8, in order.
pub(crate) fn readable(headers: Option<&OwnedHeaders>) -> Vec<HeaderPair> {
    read_all(headers).into_iter().flatten().collect()
}

/// Reads every header in order; `None` for one whose name is not UTF-8.
fn read_all(headers: Option<&OwnedHeaders>) -> Vec<Option<HeaderPair>> {
    let Some(headers) = headers else { return Vec::new() };
    let read_pair = |index| {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let header = headers.get(index);
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        }));
        result.ok()
    };
    without_panic_reports(|| (0..headers.count()).map(read_pair).collect())
}

/// Returns the headers of a dead letter: those of the record, unchanged, then `reason`.
///
/// If the record was a dead letter before, its old reason is removed. It stays if any header name
/// is not UTF-8; readers use the last of equal names, which is the new reason.
pub(crate) fn with_reason(
    original: Option<&OwnedHeaders>,
    reason: &[(String, String)],
) -> OwnedHeaders {
    append(without(original, dead_letter::is_reason_header), reason)
}

/// Returns the headers of a replay: those of the record, unchanged, without the reason, then the
/// number of replays. As in [`with_reason`], the old reason and number stay if a name is not UTF-8.
pub(crate) fn for_replay(original: Option<&OwnedHeaders>, replays: u64) -> OwnedHeaders {
    let count = dead_letter::REPLAY_COUNT_HEADER;
    let kept = without(original, |name| dead_letter::is_reason_header(name) || name == count);
    append(kept, &[(count.to_owned(), replays.to_string())])
}

/// Removes the headers whose name `is_removed` accepts. Removes none if any name is not UTF-8.
fn without(headers: Option<&OwnedHeaders>, is_removed: impl Fn(&str) -> bool) -> OwnedHeaders {
    match read(headers) {
        Ok(pairs) if pairs.iter().any(|(name, _)| is_removed(name)) => {
            let kept = pairs.into_iter().filter(|(name, _)| !is_removed(name));
            kept.fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: &name, value: value.as_ref() })
            })
        }
        _ => headers.cloned().unwrap_or_default(),
    }
}

/// Appends text headers.
pub(crate) fn append(headers: OwnedHeaders, pairs: &[(String, String)]) -> OwnedHeaders {
    pairs.iter().fold(headers, |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    })
}

thread_local! {
    static EXPECTS_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read` without logging the panics that it catches. Otherwise, anyone who may write to the
/// topic could fill the log.
fn without_panic_reports<T>(read: impl FnOnce() -> T) -> T {
    static FILTER: Once = Once::new();
    FILTER.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTS_PANIC.get() {
                report(info);
            }
        }));
    });
    EXPECTS_PANIC.set(true);
    let result = read();
    EXPECTS_PANIC.set(false);
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
    fn the_reason_of_a_second_failure_replaces_the_first() {
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
    fn a_replay_removes_the_reason_and_counts_itself() {
        let dead_letter = headers(&[
            ("dogiqa.replay.count", Some("1")),
            ("tenant", Some("a")),
            ("dogiqa.error.code", Some("fetch.timeout")),
        ]);
        let pairs = read(Some(&for_replay(Some(&dead_letter), 2))).unwrap();
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
