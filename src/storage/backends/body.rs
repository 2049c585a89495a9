//! The content of a response: checks its etag first, then counts its bytes as they arrive.

use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use futures::{Stream, StreamExt};

use crate::etag::Etag;
use crate::redact;
use crate::storage::error::FetchFault;

/// Maximum memory to reserve up front, regardless of the size that the response declares.
const CAPACITY_MAX_BYTES: u64 = 1 << 20;

/// Maximum bytes to read of an error's body. Errors of real stores have less than 1 KiB.
const ERROR_BYTES_MAX: usize = 8 * 1024;

/// Longest part of an etag that a message repeats, in bytes.
const SHOWN_ETAG_BYTES_MAX: usize = 128;

/// The content that one attempt has read.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) etag: Option<String>,
    pub(crate) media_type: Option<String>,
}

/// Refuses an object whose etag is not the expected one, or that has none.
pub(crate) fn check_etag(
    expected: Option<&Etag>,
    answered: Option<&str>,
) -> Result<(), FetchFault> {
    let Some(expected) = expected else { return Ok(()) };
    match answered {
        Some(answered) if expected.matches(answered) => Ok(()),
        Some(answered) => {
            let shown = |tag| redact::excerpt(tag, SHOWN_ETAG_BYTES_MAX);
            let (expected, answered) = (shown(&expected.opaque), shown(answered));
            let why = format!("expected {expected}, the store has {answered}");
            Err(FetchFault::EtagMismatch(why))
        }
        None => Err(FetchFault::EtagMismatch("the store sent no etag".to_owned())),
    }
}

/// Reads a stream to its end.
///
/// # Errors
/// Fails if the declared size, or the bytes that arrive, exceed `limit`. Fails if the body does not
/// have its declared size.
pub(crate) async fn collect(
    stream: impl Stream<Item = Result<Bytes, FetchFault>>,
    declared_size: Option<u64>,
    limit: ByteSize,
) -> Result<Bytes, FetchFault> {
    if let Some(size) = declared_size.filter(|&size| size > limit.as_u64()) {
        return Err(FetchFault::too_large(size, limit));
    }
    let mut stream = std::pin::pin!(stream);
    // A body in one piece, as from memory, is returned without a copy.
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    let mut received: u64 = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        received += piece.len() as u64;
        if received > limit.as_u64() {
            return Err(FetchFault::larger_than(limit));
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = piece;
            continue;
        }
        if pieces.is_empty() {
            let expected = declared_size.unwrap_or(0).min(CAPACITY_MAX_BYTES).max(received);
            pieces.reserve(usize::try_from(expected).unwrap_or_default());
            pieces.extend_from_slice(&std::mem::take(&mut whole));
        }
        pieces.extend_from_slice(&piece);
    }
    if let Some(size) = declared_size.filter(|&size| size != received) {
        let why = format!("the body ended after {received} of {size} bytes");
        return Err(FetchFault::Unavailable(why));
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// Reads the beginning of an error's body, which a hostile store could make endless. The status
/// counts even if the body is cut off.
pub(crate) async fn error_text<E>(stream: impl Stream<Item = Result<Bytes, E>>) -> String {
    let mut stream = std::pin::pin!(stream);
    let mut text = Vec::new();
    while let Some(Ok(piece)) = stream.next().await {
        text.extend_from_slice(&piece);
        if text.len() >= ERROR_BYTES_MAX {
            text.truncate(ERROR_BYTES_MAX);
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::stream::iter;

    use super::*;

    fn check(
        pieces: &[&'static str],
        size: Option<u64>,
        limit: u64,
    ) -> Result<String, &'static str> {
        let stream = iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))));
        let outcome = collect(stream, size, ByteSize(limit)).now_or_never().unwrap();
        outcome.map(|bytes| String::from_utf8(bytes.into()).unwrap()).map_err(|fault| fault.code())
    }

    #[test]
    fn a_message_shows_the_start_of_a_long_etag_without_control_characters() {
        let expected = Etag::parse(&"\u{85}é".repeat(500)).unwrap();
        let fault = check_etag(Some(&expected), Some(&"x".repeat(500))).unwrap_err();
        let message = fault.to_string();
        assert!(message.len() < 400 && !message.contains('\u{85}'), "{message}");
    }

    #[test]
    fn an_object_without_an_etag_cannot_be_the_expected_one() {
        let expected = Etag::parse("abc").unwrap();
        let fault = check_etag(Some(&expected), None).unwrap_err();
        assert_eq!(fault.code(), "fetch.etag_mismatch");
        assert!(check_etag(None, None).is_ok());
    }

    #[test]
    fn pieces_are_joined_up_to_the_limit() {
        assert_eq!(check(&[], None, 4).as_deref(), Ok(""));
        assert_eq!(check(&["abcd"], Some(4), 4).as_deref(), Ok("abcd"));
        assert_eq!(check(&["", "a", "", "bc", "d"], None, 4).as_deref(), Ok("abcd"));
        assert_eq!(check(&["ab", "cd", "e"], None, 4), Err("fetch.too_large"));
        assert_eq!(check(&["abcde"], None, 4), Err("fetch.too_large"));
        assert_eq!(check(&["ab"], Some(5), 4), Err("fetch.too_large"));
    }

    #[test]
    fn a_body_that_ends_early_or_late_is_refused() {
        assert_eq!(check(&["ab"], Some(3), 4), Err("fetch.unavailable"));
        assert_eq!(check(&["ab", "c"], Some(2), 4), Err("fetch.unavailable"));
    }

    #[test]
    fn a_huge_declared_size_reserves_little_memory() {
        let pieces = ["ab", "c"].map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let broken = pieces.into_iter().chain([Err(FetchFault::NotAFile("x"))]);
        let outcome = collect(iter(broken), Some(1 << 40), ByteSize(1 << 41)).now_or_never();
        assert_eq!(outcome.unwrap().unwrap_err().code(), "fetch.not_a_file");
    }
}
