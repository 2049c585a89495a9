//! Accepts connections, answers their requests, and closes them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::http_server::client_stream::{ClientStream, closed};
use crate::http_server::limits::{ConnectionLimits, HEAD_BYTES_MAX};

/// Pause after the operating system refused a connection, as without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The connections of one server. Dropping this value closes them.
pub(crate) struct Connections {
    router: Router,
    limits: ConnectionLimits,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Lets the responses in flight be written, then closes the connections.
    closing: CancellationToken,
    /// Closes them at once.
    killed: CancellationToken,
    _end: DropGuard,
}

impl Connections {
    pub(crate) fn new(router: Router, limits: ConnectionLimits) -> Self {
        let killed = CancellationToken::new();
        Self {
            router,
            limits,
            permits: Arc::new(Semaphore::new(limits.connections_max)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            _end: killed.clone().drop_guard(),
            killed,
        }
    }

    /// Accepts connections without end.
    ///
    /// Cancel safe, but with `closes_oldest` it knows only the connections of the same call.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Infallible {
        let mut open = VecDeque::new();
        loop {
            let free = if self.limits.closes_oldest { None } else { Some(self.permit().await) };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let permit = match free {
                        Some(permit) => permit,
                        None => self.permit_of_oldest(&mut open).await,
                    };
                    let end = self.killed.child_token();
                    if self.limits.closes_oldest {
                        open.push_back(end.clone());
                    }
                    self.tasks.spawn(self.serve(stream, permit, end));
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.expect("the connections are never closed for new ones")
    }

    /// Returns a permit, and closes the oldest of the open connections if none is free. Its task
    /// ends at once, so this does not wait for a client.
    async fn permit_of_oldest(
        &self,
        open: &mut VecDeque<CancellationToken>,
    ) -> OwnedSemaphorePermit {
        open.retain(|end| !end.is_cancelled());
        if self.permits.available_permits() == 0
            && let Some(oldest) = open.pop_front()
        {
            oldest.cancel();
        }
        self.permit().await
    }

    /// Accepts connections until `stop` is ready, then closes the listener and the connections.
    pub(crate) async fn accept_until(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        // A stop takes precedence over more connections.
        tokio::select! {
            biased;
            () = stop => {}
            never = self.accept(&listener) => match never {},
        }
        drop(listener);
        self.close().await;
    }

    /// Waits until the responses in flight are written, at most for the limit, then closes all
    /// connections.
    pub(crate) async fn close(self) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.limits.close_timeout, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "some clients do not read their responses; their connections are closed"
            );
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        end: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let service = TowerToHyperService::new(self.router.clone());
        let closing = self.closing.clone();
        let head_timeout = self.limits.head_timeout;
        async move {
            let _permit = permit;
            // Marks the connection as closed.
            let _end = end.clone().drop_guard();
            // Only a slower connection without it.
            drop(stream.set_nodelay(true));
            let mut builder = Builder::new(TokioExecutor::new()).http1_only();
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout)
                .max_buf_size(HEAD_BYTES_MAX);
            let stream = Arc::new(stream);
            let io = TokioIo::new(ClientStream::new(&stream));
            let mut connection = pin!(builder.serve_connection(io, service));
            let mut closed = pin!(closed(&stream));
            let mut is_closing = false;
            loop {
                // The end of the server takes precedence over more requests.
                tokio::select! {
                    biased;
                    () = end.cancelled() => return,
                    () = closing.cancelled(), if !is_closing => {
                        is_closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    // An error is a client's: it disconnected, or sent no HTTP.
                    result = &mut connection => return drop(result),
                    // While a body is unread, nothing else notices the disconnect.
                    () = &mut closed => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// More than any step of a test takes.
    const PATIENCE: Duration = Duration::from_secs(30);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    struct Server {
        address: SocketAddr,
        stop: CancellationToken,
        served: JoinHandle<()>,
    }

    impl Server {
        async fn start(limits: ConnectionLimits) -> Self {
            let endless = || async { std::future::pending::<()>().await };
            let router = Router::new()
                .route("/", get(|| async { "answer" }))
                .route("/endless", get(endless));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let stop = CancellationToken::new();
            let (connections, stopped) = (Connections::new(router, limits), stop.clone());
            let served = tokio::spawn(async move {
                connections.accept_until(listener, stopped.cancelled()).await;
            });
            Self { address, stop, served }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }
    }

    /// Reads until a response with the body `answer` is complete.
    async fn answer(client: &mut TcpStream) {
        let mut read = Vec::new();
        while !read.ends_with(b"answer") {
            assert_ne!(client.read_buf(&mut read).await.unwrap(), 0, "the connection is closed");
        }
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_headers_is_cut() {
        let limits = ConnectionLimits {
            head_timeout: Duration::from_millis(200),
            ..ConnectionLimits::of_connections(8)
        };
        let server = Server::start(limits).await;
        let mut first = server.connect().await;
        first.write_all(b"GET / HTTP/1.1\r\nhost: local").await.unwrap();
        let mut second = server.connect().await;
        second.write_all(REQUEST).await.unwrap();
        answer(&mut second).await;
        // A kept connection must not stay open without a request either.
        for client in [&mut first, &mut second] {
            let mut rest = Vec::new();
            timeout(PATIENCE, client.read_to_end(&mut rest)).await.unwrap().unwrap();
            assert!(!rest.ends_with(b"answer"), "{}", String::from_utf8_lossy(&rest));
        }
    }

    #[tokio::test]
    async fn headers_above_the_limit_are_refused() {
        let server = Server::start(ConnectionLimits::of_connections(8)).await;
        let mut client = server.connect().await;
        let head =
            format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
        // The server may close the connection before everything is written.
        drop(client.write_all(head.as_bytes()).await);
        let mut line = [0; 12];
        timeout(PATIENCE, client.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(&line, b"HTTP/1.1 431");
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_until_another_one_ends() {
        let server = Server::start(ConnectionLimits::of_connections(2)).await;
        let mut open = [server.connect().await, server.connect().await];
        for client in &mut open {
            client.write_all(REQUEST).await.unwrap();
            timeout(PATIENCE, answer(client)).await.unwrap();
        }
        let mut third = server.connect().await;
        third.write_all(REQUEST).await.unwrap();
        timeout(Duration::from_millis(300), answer(&mut third)).await.unwrap_err();
        let [first, _second] = open;
        drop(first);
        timeout(PATIENCE, answer(&mut third)).await.unwrap();
    }

    #[tokio::test]
    async fn idle_and_slow_connections_are_closed_for_new_ones_from_the_oldest_on() {
        let limits =
            ConnectionLimits { closes_oldest: true, ..ConnectionLimits::of_connections(4) };
        let server = Server::start(limits).await;
        let mut kept = server.connect().await;
        kept.write_all(REQUEST).await.unwrap();
        timeout(PATIENCE, answer(&mut kept)).await.unwrap();
        let idle = server.connect().await;
        let mut slow = server.connect().await;
        slow.write_all(b"GET / HTTP/1.1\r\nhost: local").await.unwrap();
        let mut endless = server.connect().await;
        endless.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut held = VecDeque::from([kept, idle, slow, endless]);
        // Each answered connection stays open, so the next one closes the oldest.
        for _ in 0..12 {
            let mut probe = server.connect().await;
            probe.write_all(REQUEST).await.unwrap();
            timeout(PATIENCE, answer(&mut probe)).await.unwrap();
            held.push_back(probe);
            let mut oldest = held.pop_front().unwrap();
            let end = timeout(PATIENCE, oldest.read(&mut [0; 16])).await.unwrap();
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
        let mut newest = held.pop_back().unwrap();
        newest.write_all(REQUEST).await.unwrap();
        timeout(PATIENCE, answer(&mut newest)).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_without_end_delays_a_stop_until_its_limit() {
        let limits = ConnectionLimits {
            close_timeout: Duration::from_millis(300),
            ..ConnectionLimits::of_connections(8)
        };
        let server = Server::start(limits).await;
        let mut endless = server.connect().await;
        endless.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut idle = server.connect().await;
        idle.write_all(REQUEST).await.unwrap();
        answer(&mut idle).await;
        server.stop.cancel();
        let mut rest = Vec::new();
        timeout(PATIENCE, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(!server.served.is_finished(), "the other request is still in flight");
        timeout(PATIENCE, server.served).await.unwrap().unwrap();
        timeout(PATIENCE, endless.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    }
}
