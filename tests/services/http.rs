//! An HTTP client for a worker's pages, and an S3 server that refuses every request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::process::Process;
use crate::service_fixture::WAIT_MAX;

/// Returns the address of the worker's HTTP server, from its log.
pub(crate) fn served_address(worker: &Process) -> String {
    let line = worker.wait_for_line("serving /healthz", WAIT_MAX);
    let line: Value = serde_json::from_str(&line).unwrap();
    line["address"].as_str().unwrap().to_owned()
}

/// Returns the status and the body of a page.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(WAIT_MAX)).unwrap();
    // In HTTP/1.0 a body has no chunks.
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A store that refuses every request and repeats the request head in its error message.
/// `/redirect…` redirects to a forbidden host.
pub(crate) struct EchoServer {
    address: String,
}

impl EchoServer {
    pub(crate) fn start(signature: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for connection in listener.incoming().take(1_000) {
                // A client may close the connection early.
                drop(connection.and_then(|connection| echo(connection, signature)));
            }
        });
        Self { address }
    }

    /// `address:port`.
    pub(crate) fn authority(&self) -> &str {
        &self.address
    }
}

fn echo(mut connection: TcpStream, signature: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte)? > 0 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let location = format!("Location: https://10.0.0.1/a.jpg?X-Amz-Signature={signature}\r\n");
    let (status, header) =
        if head.starts_with("GET /redirect") { (302, &*location) } else { (403, "") };
    let body = format!("<Error><Code>AccessDenied</Code><Message>{head}</Message></Error>");
    write!(
        connection,
        "HTTP/1.1 {status} X\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
