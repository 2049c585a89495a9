//! The socket of a client: it has a time limit for reading a response, and shows that the client
//! has closed it, also while nothing is read from it.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Maximum time in which a client reads a response that the operating system does not buffer.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// Interval at which a socket with unread bytes is tested for its end.
const TEST_EVERY: Duration = Duration::from_millis(250);

/// The socket, for one connection.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: Arc<TcpStream>,
    /// Runs from a write that must wait until everything is written.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(crate) fn new(stream: &Arc<TcpStream>) -> Self {
        Self { stream: Arc::clone(stream), blocked: None }
    }

    fn write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.stream.poll_write_ready(context)?.is_ready() {
            match write(&self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(blocked.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|bytes| buffer.advance(bytes))),
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write_with(context, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called once everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.blocked = None;
        Poll::Ready(Ok(()))
    }

    /// Dropping the connection closes the socket.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Waits until the client has closed the connection, also while bytes before its end are unread.
/// An end behind more bytes than the operating system buffers is not seen before they are read.
///
/// Cancel safe.
pub(crate) async fn closed(stream: &TcpStream) {
    while let Ok(ready) = stream.ready(Interest::READABLE).await
        && !ready.is_read_closed()
    {
        sleep(TEST_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    async fn pair() -> (TcpStream, Arc<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Arc::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn the_end_of_a_client_is_seen_behind_bytes_that_nobody_has_read() {
        let (mut client, stream) = pair().await;
        client.write_all(b"unread").await.unwrap();
        timeout(2 * TEST_EVERY, closed(&stream)).await.unwrap_err();
        drop(client);
        timeout(Duration::from_secs(30), closed(&stream)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_an_error_after_the_time_limit() {
        let (client, stream) = pair().await;
        let mut stream = ClientStream::new(&stream);
        let error = stream.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(client);
    }
}
