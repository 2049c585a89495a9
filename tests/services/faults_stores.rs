//! An S3 server behind a relay that corrupts every fifth answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::bucket;
use crate::fault_run::FaultRun;
use crate::service_fixture::PublishedRecord;
use crate::web_server::{Answer, Request, WebServer};

/// Prefix of objects that the relay answers with other bytes and another entity tag.
const SWAPPED: &str = "swapped";

#[test]
fn a_store_with_failing_stalled_and_wrong_answers_loses_no_reference() {
    FaultRun::in_both_modes(
        "store",
        "S3 answers 500, 503, stalls, resets in a body (every fifth), lies about etags",
        |mut run| {
            let services = run.fixture.services;
            let swapped = run.size.references / 50;
            let keys = (0..swapped).map(|number| format!("{SWAPPED}-{number}"));
            run.expected.dead_letters = keys.map(|key| (key, "fetch.etag_mismatch")).collect();
            let names = run.expected.dead_letters.keys();
            run.fixture.publish(names.map(|name| {
                let uri = bucket::uri(services, name);
                let reference = json!({"uri": uri, "etag": "0123456789abcdef0123456789abcdef"});
                PublishedRecord {
                    key: Some(name.clone().into_bytes()),
                    payload: Some(reference.to_string().into_bytes()),
                    ..PublishedRecord::default()
                }
            }));
            let corrupted = Arc::new(AtomicUsize::new(0));
            let upstream = services.value("S3_ENDPOINT").trim_start_matches("http://").to_owned();
            let relay = {
                let corrupted = Arc::clone(&corrupted);
                WebServer::start(move |request, earlier| {
                    let answer = answer(&upstream, request, earlier);
                    corrupted.fetch_add(usize::from(answer.1), Ordering::Relaxed);
                    answer.0
                })
            };
            run.set(format!("storage.s3.endpoint=http://{}", relay.place()));
            run.set("storage.read_timeout=1s");
            // A fifth of all attempts fails. With three attempts one image in 125 would fail.
            run.set("storage.attempts_max=12");
            run.start(3);
            run.read_until_answered(1, 1);
            run.faults = corrupted.load(Ordering::Relaxed);
            run.finish();
        },
    );
}

/// Returns the store's answer or a corrupted one, and true if it is corrupted.
fn answer(upstream: &str, request: &Request, earlier: usize) -> (Answer, bool) {
    let error = |status, code| {
        let body = format!("<Error><Code>{code}</Code><Message>asked to</Message></Error>");
        Answer::status(status, "Content-Type: application/xml\r\n", body)
    };
    if request.target.contains(SWAPPED) {
        let tag = "ETag: \"fedcba9876543210fedcba9876543210\"\r\n";
        return (Answer::status(200, tag, "something else"), true);
    }
    let corrupted = match earlier % 20 {
        0 => error(500, "InternalError"),
        5 => error(503, "SlowDown"),
        10 => Answer::Stall(half(forward(upstream, request))),
        15 => Answer::Reset(half(forward(upstream, request))),
        _ => return (Answer::Send(forward(upstream, request)), false),
    };
    (corrupted, true)
}

/// Forwards the request unchanged, so that its signature stays valid.
fn forward(upstream: &str, request: &Request) -> Vec<u8> {
    let mut connection = TcpStream::connect(upstream).unwrap();
    write!(connection, "{} {} HTTP/1.1\r\n", request.method, request.target).unwrap();
    for (name, value) in &request.headers {
        write!(connection, "{name}: {value}\r\n").unwrap();
    }
    connection.write_all(b"Connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    answer
}

/// Returns the head and half of the body.
fn half(mut answer: Vec<u8>) -> Vec<u8> {
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    answer.truncate(body + (answer.len() - body) / 2);
    answer
}
