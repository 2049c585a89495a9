//! Just enough of an HTTP client to look at a worker's pages.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::process::Process;
use crate::scene::PATIENCE;

/// Where the worker serves its pages, as its log says.
pub(crate) fn served_address(worker: &Process) -> String {
    let line = worker.wait_for_line("serving /healthz", PATIENCE);
    let line: Value = serde_json::from_str(&line).unwrap();
    line["address"].as_str().unwrap().to_owned()
}

/// The status and the body of a page.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
