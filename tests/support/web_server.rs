//! A web server on loopback whose answers the test defines byte by byte. It records all requests.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use dog_iqa::storage::{S3Settings, Secret};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A client's request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, unchanged.
    pub(crate) target: String,
    /// In their original order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body without its last byte, which is read when the answer is sent.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |(header, _): &&(String, String)| header.eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|(_, value)| value.as_str())
    }
}

/// The server's answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Sends these bytes and closes the connection.
    Send(Vec<u8>),
    /// Sends these bytes, then nothing until the client closes the connection.
    Stall(Vec<u8>),
    /// Sends these bytes, then resets the connection.
    Reset(Vec<u8>),
}

impl Answer {
    /// Returns an answer with its content length.
    pub(crate) fn status(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let length = body.as_ref().len();
        Self::Send(head(status, &format!("Content-Length: {length}\r\n{headers}"), body))
    }

    /// Returns a 200 with its content length.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200, "", body)
    }

    /// Returns a redirect.
    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::status(status, &format!("Location: {location}\r\n"), "")
    }
}

/// Returns the bytes of an answer: the head with these headers, and a body.
pub(crate) fn head(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body.as_ref());
    bytes
}

type Handler = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// A running server. Dropping it stops it.
pub(crate) struct WebServer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Starts a server on 127.0.0.1. `answer` receives the request and the number of earlier ones.
    pub(crate) fn start(
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), answer).expect("the machine has loopback")
    }

    /// Starts a server on another address. Fails if the machine does not have it.
    pub(crate) fn start_at(
        address: IpAddr,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::start_with(address, answer, |stream, received, answer| {
            serve(stream, received, answer);
        })
    }

    /// Starts a server that listens on this socket.
    pub(crate) fn start_on(
        listener: TcpListener,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::serve_on(listener, answer, |stream, received, answer| {
            serve(stream, received, answer);
        })
        .expect("the socket has an address")
    }

    /// Starts a server on 127.0.0.1 that speaks TLS.
    pub(crate) fn start_tls(
        tls: Arc<ServerConfig>,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let connect = move |stream, received: &Mutex<Vec<Request>>, answer: &Handler| {
            let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
            serve(StreamOwned::new(connection, stream), received, answer);
        };
        Self::start_with(Ipv4Addr::LOCALHOST.into(), answer, connect)
            .expect("the machine has loopback")
    }

    fn start_with(
        address: IpAddr,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
        connect: impl Fn(TcpStream, &Mutex<Vec<Request>>, &Handler) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::serve_on(TcpListener::bind((address, 0))?, answer, connect)
    }

    fn serve_on(
        listener: TcpListener,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
        connect: impl Fn(TcpStream, &Mutex<Vec<Request>>, &Handler) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let connect = Arc::new(connect);
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&received), Arc::clone(&connections), Arc::clone(&is_stopping));
        let answer: Arc<Handler> = Arc::new(answer);
        let thread = spawn(move || {
            let (received, connections, is_stopping) = shared;
            for stream in listener.incoming() {
                if is_stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                *connections.lock().unwrap() += 1;
                let (received, answer) = (Arc::clone(&received), Arc::clone(&answer));
                let connect = Arc::clone(&connect);
                spawn(move || connect(stream, &received, &*answer));
            }
        });
        Ok(Self { address, received, connections, is_stopping, thread: Some(thread) })
    }

    /// Starts a server that no test may reach.
    pub(crate) fn canary() -> Self {
        Self::start(|_, _| Answer::ok("the canary was read"))
    }

    /// `address:port`.
    pub(crate) fn place(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the settings of a bucket whose endpoint is this server.
    pub(crate) fn as_s3(&self) -> S3Settings {
        S3Settings {
            endpoint: Some(self.url("")),
            region: Some("eu-west-1".to_owned()),
            allow_http: true,
            access_key_id: Some("AKIATEST".to_owned()),
            secret_access_key: Some(Secret::new("s3cret-key")),
            ..S3Settings::default()
        }
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the number of opened connections, including those without a request.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            thread.join().expect("the server's loop does not panic");
        }
    }
}

fn serve(mut stream: impl Read + Write, received: &Mutex<Vec<Request>>, answer: &Handler) {
    let Some(request) = read_request(&mut stream) else { return };
    let earlier = {
        let mut received = received.lock().unwrap();
        received.push(request.clone());
        received.len() - 1
    };
    let mut rest = [0; 1024];
    // These writes and reads fail if the client closes the connection early, which it may do.
    match answer(&request, earlier) {
        Answer::Send(mut bytes) => {
            if request.method == "HEAD"
                && let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n")
            {
                bytes.truncate(end + 4);
            }
            let _last = stream.read(&mut rest[..1]);
            let _sent = stream.write_all(&bytes);
        }
        Answer::Stall(bytes) => {
            let _sent = stream.write_all(&bytes);
            while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
        }
        // The request's last byte is still unread, so closing resets the connection.
        Answer::Reset(bytes) => {
            let _sent = stream.write_all(&bytes);
        }
    }
}

/// Reads up to the last byte of the request, which stays unread: that of the head or of the body.
fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    if let Some(length) = length.filter(|length| *length > 0) {
        // The end of the head, then all bytes of the body but the last.
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).ok()?;
        request.body = rest.split_off(1);
    }
    Some(request)
}
