//! The body of a request: read up to a limit, or discarded.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::timeout;

use crate::serve::problem::Refusal;

/// Maximum memory to reserve up front, regardless of the size that the request declares.
const CAPACITY_BYTES_MAX: u64 = 1 << 20;
/// Maximum time for which a body is silent. A slow client holds a slot and memory.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Maximum bytes of a refused request that are read and dropped.
const DISCARDED_BYTES_MAX: usize = 8 << 20;
/// Maximum time for that.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// A body that has not been read to its end yet.
pub(crate) struct RequestBody {
    stream: BodyDataStream,
    declared: Option<u64>,
    /// True if the client waits for `100 Continue` before it sends the body.
    is_awaited: bool,
    /// Maximum time in which it arrives.
    time_max: Duration,
}

impl RequestBody {
    pub(crate) fn new(headers: &HeaderMap, body: Body, time_max: Duration) -> Self {
        let declared = body.size_hint().exact();
        let is_awaited = headers.contains_key(header::EXPECT);
        Self { stream: body.into_data_stream(), declared, is_awaited, time_max }
    }

    /// Returns the maximum bytes of the body: its declared size, or the limit if it declares none.
    ///
    /// # Errors
    /// Fails if the declared size is above the limit.
    pub(crate) fn bytes_max(&self, limit: u64, setting: &str) -> Result<u64, Refusal> {
        match self.declared {
            Some(size) if size > limit => Err(too_large(&format!("{size} bytes"), limit, setting)),
            Some(size) => Ok(size),
            None => Ok(limit),
        }
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// Fails if more than `limit` bytes arrive, or if the connection breaks, is silent or is slow.
    pub(crate) async fn read(&mut self, limit: u64, setting: &str) -> Result<Bytes, Refusal> {
        let time_max = self.time_max;
        let read = timeout(time_max, self.read_pieces(limit, setting)).await;
        read.unwrap_or_else(|_| {
            let time_max = humantime::format_duration(time_max);
            let detail = format!("it did not arrive within {time_max}, by serve.body_timeout");
            Err(incomplete(StatusCode::REQUEST_TIMEOUT, &detail))
        })
    }

    async fn read_pieces(&mut self, limit: u64, setting: &str) -> Result<Bytes, Refusal> {
        let expected = self.bytes_max(limit, setting)?.min(CAPACITY_BYTES_MAX);
        let mut bytes = BytesMut::with_capacity(usize::try_from(expected).unwrap_or_default());
        let silent = |_| incomplete(StatusCode::REQUEST_TIMEOUT, "nothing arrived for 10 s");
        while let Some(piece) = timeout(SILENCE_MAX, self.stream.next()).await.map_err(silent)? {
            let piece =
                piece.map_err(|error| incomplete(StatusCode::BAD_REQUEST, &error.to_string()))?;
            if (bytes.len() + piece.len()) as u64 > limit {
                return Err(too_large("more bytes than allowed", limit, setting));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Reads and drops the rest of a refused body, within limits. Otherwise the connection is reset
    /// while the client still sends, and the client never reads the response.
    pub(crate) async fn discard(mut self) {
        if self.is_awaited {
            return;
        }
        let read = async {
            let mut discarded = 0;
            while let Some(Ok(piece)) = self.stream.next().await {
                discarded += piece.len();
                if discarded > DISCARDED_BYTES_MAX {
                    return;
                }
            }
        };
        // A slow client is cut off.
        drop(timeout(DISCARD_TIME_MAX, read).await);
    }
}

fn incomplete(status: StatusCode, detail: &str) -> Refusal {
    let detail = format!("the body is incomplete: {detail}");
    Refusal::new(status, "request.body_incomplete", detail)
}

fn too_large(size: &str, limit: u64, setting: &str) -> Refusal {
    let detail = format!("the body has {size}, the limit is {limit}; {setting}");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request.too_large", detail)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(30);

    fn body(pieces: Vec<&'static [u8]>, ends: bool) -> RequestBody {
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
        let rest =
            if ends { stream::empty().left_stream() } else { stream::pending().right_stream() };
        RequestBody::new(&HeaderMap::new(), Body::from_stream(pieces.chain(rest)), TIME_MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_to_its_end_or_its_limit_and_may_not_be_silent() {
        let read = async |mut body: RequestBody| {
            let read = body.read(4, "send less").await;
            read.map_err(|refusal| (refusal.status.as_u16(), refusal.code))
        };
        assert_eq!(read(body(vec![b"ab", b"cd"], true)).await.unwrap(), "abcd");
        let large = read(body(vec![b"ab", b"cde"], true)).await;
        assert_eq!(large, Err((413, "request.too_large")));
        let silent = read(body(vec![b"ab"], false)).await;
        assert_eq!(silent, Err((408, "request.body_incomplete")));
        // A refused body without an end does not hold the response back.
        body(vec![b"ab"], false).discard().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_never_silent_has_a_time_limit_too() {
        let ticks = tokio::time::interval(SILENCE_MAX / 2);
        let drops = stream::unfold(ticks, |mut ticks| async {
            ticks.tick().await;
            Some((Ok::<_, Infallible>(b"a".as_slice()), ticks))
        });
        let mut body = RequestBody::new(&HeaderMap::new(), Body::from_stream(drops), TIME_MAX);
        let started = tokio::time::Instant::now();
        let refusal = body.read(1000, "send less").await.unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.code), (408, "request.body_incomplete"));
        assert!(started.elapsed() < TIME_MAX + SILENCE_MAX);
    }
}
