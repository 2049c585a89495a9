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
pub(super) type Pair = (String, Option<Vec<u8>>);

/// Reads all headers in order.
///
/// # Errors
/// The position of the first header whose name is not UTF-8.
pub(super) fn read(headers: Option<&OwnedHeaders>) -> Result<Vec<Pair>, usize> {
    let Some(headers) = headers else { return Ok(Vec::new()) };
    quietly(|| {
        let mut pairs = Vec::with_capacity(headers.count());
        for index in 0..headers.count() {
            let pair = panic::catch_unwind(AssertUnwindSafe(|| {
                let header = headers.get(index);
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            }));
            pairs.push(pair.map_err(|_| index)?);
        }
        Ok(pairs)
    })
}

/// The headers of a dead letter: the record's own, untouched, then the reason.
///
/// A reason that the record brought along (it was a dead letter before) is replaced. It cannot be
/// taken out where a name is not UTF-8; readers take the last of equal names, which is ours.
pub(super) fn with_reason(
    original: Option<&OwnedHeaders>,
    reason: &[(String, String)],
) -> OwnedHeaders {
    let kept = match read(original) {
        Ok(pairs) if pairs.iter().any(|(name, _)| dead_letter::is_reason_header(name)) => {
            let kept = pairs.into_iter().filter(|(name, _)| !dead_letter::is_reason_header(name));
            kept.fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: &name, value: value.as_ref() })
            })
        }
        _ => original.cloned().unwrap_or_default(),
    };
    append(kept, reason)
}

/// Adds text headers at the end.
pub(super) fn append(headers: OwnedHeaders, pairs: &[(String, String)]) -> OwnedHeaders {
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
    fn a_record_without_headers_gets_only_the_reason() {
        let reason = [("dogiqa.error.code".to_owned(), "reference.missing_uri".to_owned())];
        assert_eq!(names(&with_reason(None, &reason)), ["dogiqa.error.code"]);
    }
}
