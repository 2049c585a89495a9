//! Collects a body, counted while it comes in.

use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use futures::{Stream, StreamExt};

use crate::storage::failure::FetchFault;

/// What is set aside at once for a body, however large it says it is.
const CAPACITY_MAX_BYTES: u64 = 1 << 20;

/// Reads a stream to its end, unless it passes `limit`. A declared size above the limit is refused
/// before a byte is read; a body that ends before its declared size is a broken one.
pub(crate) async fn collect(
    stream: impl Stream<Item = Result<Bytes, FetchFault>>,
    declared_size: Option<u64>,
    limit: ByteSize,
) -> Result<Bytes, FetchFault> {
    if let Some(size) = declared_size.filter(|&size| size > limit.as_u64()) {
        return Err(FetchFault::too_large(size, limit));
    }
    let mut stream = std::pin::pin!(stream);
    // A body in one piece, as from memory, is passed on without a copy.
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytesize::ByteSize;
    use futures::FutureExt;
    use futures::stream::iter;

    use super::collect;
    use crate::storage::failure::FetchFault;

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
    fn pieces_are_joined_up_to_the_limit() {
        assert_eq!(check(&[], None, 4).as_deref(), Ok(""));
        assert_eq!(check(&["abcd"], Some(4), 4).as_deref(), Ok("abcd"));
        assert_eq!(check(&["", "a", "", "bc", "d"], None, 4).as_deref(), Ok("abcd"));
        assert_eq!(check(&["ab", "cd", "e"], None, 4), Err("fetch.too_large"));
        assert_eq!(check(&["abcde"], None, 4), Err("fetch.too_large"));
        assert_eq!(check(&["ab"], Some(5), 4), Err("fetch.too_large"));
    }

    #[test]
    fn a_body_that_ends_early_or_late_is_broken() {
        assert_eq!(check(&["ab"], Some(3), 4), Err("fetch.unavailable"));
        assert_eq!(check(&["ab", "c"], Some(2), 4), Err("fetch.unavailable"));
    }

    #[test]
    fn a_huge_declared_size_sets_little_aside() {
        let pieces = ["ab", "c"].map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let broken = pieces.into_iter().chain([Err(FetchFault::NotAFile("x"))]);
        let outcome = collect(iter(broken), Some(1 << 40), ByteSize(1 << 41)).now_or_never();
        assert_eq!(outcome.unwrap().unwrap_err().code(), "fetch.not_a_file");
    }
}
