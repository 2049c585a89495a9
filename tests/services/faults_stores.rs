//! An S3 server behind a relay that corrupts every fifth answer, refuses the worker for a while, or
//! limits the rate of requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bucket;
use crate::fault_run::FaultRun;
use crate::run_size::RunSize;
use crate::service_fixture::PublishedRecord;
use crate::services::announce;
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
            let upstream = upstream(&run);
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

#[test]
fn credentials_that_expire_and_come_back_lose_no_reference() {
    refused_for_a_while("expired", "S3 credentials expire and come back", (400, "ExpiredToken"));
}

#[test]
fn a_clock_that_is_wrong_for_a_while_loses_no_reference() {
    let answer = (403, "RequestTimeTooSkewed");
    refused_for_a_while("skewed", "the clock differs from the store's, and is set", answer);
}

/// Number of requests before the store refuses the workers.
const GOOD_REQUESTS: usize = 100;

/// Refuses every request for some seconds, from the hundredth on.
fn refused_for_a_while(name: &str, title: &'static str, (status, code): (u16, &'static str)) {
    let size = RunSize::from_environment().divided_by(3);
    FaultRun::with_size(name, title, size, |mut run| {
        let upstream = upstream(&run);
        let outage = Duration::from_secs(run.size.pick(4, 60));
        let refused = Arc::new(AtomicUsize::new(0));
        let relay = {
            let (refused, since) = (Arc::clone(&refused), OnceLock::<Instant>::new());
            WebServer::start(move |request, earlier| {
                let is_refused =
                    earlier >= GOOD_REQUESTS && since.get_or_init(Instant::now).elapsed() < outage;
                if !is_refused {
                    return Answer::Send(forward(&upstream, request));
                }
                refused.fetch_add(1, Ordering::Relaxed);
                error(status, code)
            })
        };
        run.set(format!("storage.s3.endpoint=http://{}", relay.place()));
        run.start(3);
        run.read_until_answered(1, 1);
        run.faults = refused.load(Ordering::Relaxed);
        assert!(run.faults > GOOD_REQUESTS, "only {} requests were refused", run.faults);
        run.finish();
    });
}

#[test]
fn a_store_that_allows_15_requests_a_second_loses_no_reference() {
    throttled("throttled-15", "S3 allows 15 requests a second", 15.0, 12);
}

#[test]
fn a_store_that_allows_100_requests_a_second_loses_no_reference() {
    throttled("throttled-100", "S3 allows 100 requests a second", 100.0, 3);
}

/// Three workers share a store with a rate limit. Prints the share of the rate that they used.
fn throttled(name: &str, title: &'static str, rate: f64, divisor: usize) {
    let size = RunSize::from_environment().divided_by(divisor);
    FaultRun::with_size(name, title, size, |mut run| {
        let upstream = upstream(&run);
        let limit = Arc::new(Mutex::new(TokenBucket::new(rate)));
        let relay = {
            let limit = Arc::clone(&limit);
            WebServer::start(move |request, _| {
                if limit.lock().unwrap().accepts() {
                    Answer::Send(forward(&upstream, request))
                } else {
                    error(503, "SlowDown")
                }
            })
        };
        run.set(format!("storage.s3.endpoint=http://{}", relay.place()));
        run.start(3);
        run.read_until_answered(1, 1);
        let limit = limit.lock().unwrap();
        run.faults = limit.rejected;
        announce(&format!("{title}: {}", limit.summary()));
        drop(limit);
        run.finish();
    });
}

/// Accepts `rate` requests a second, and a burst of as many.
struct TokenBucket {
    rate: f64,
    tokens: f64,
    last: Instant,
    /// The first request and the last one that was accepted.
    span: Option<(Instant, Instant)>,
    accepted: usize,
    rejected: usize,
}

impl TokenBucket {
    fn new(rate: f64) -> Self {
        let last = Instant::now();
        Self { rate, tokens: rate, last, span: None, accepted: 0, rejected: 0 }
    }

    fn accepts(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.last).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + earned).min(self.rate);
        self.last = now;
        if self.tokens < 1.0 {
            self.rejected += 1;
            return false;
        }
        self.tokens -= 1.0;
        self.accepted += 1;
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
        true
    }

    /// Describes the use of the rate, without the burst at the beginning.
    fn summary(&self) -> String {
        let seconds = self.span.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let allowed = self.rate.mul_add(seconds, self.rate);
        let used = 100.0 * self.accepted as f64 / allowed;
        let (accepted, rejected) = (self.accepted, self.rejected);
        format!(
            "{accepted} accepted in {seconds:.1} s, {used:.0} % of the rate; {rejected} rejected"
        )
    }
}

fn upstream(run: &FaultRun) -> String {
    run.fixture.services.value("S3_ENDPOINT").trim_start_matches("http://").to_owned()
}

fn error(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>asked to</Message></Error>");
    Answer::status(status, "Content-Type: application/xml\r\n", body)
}

/// Returns the store's answer or a corrupted one, and true if it is corrupted.
fn answer(upstream: &str, request: &Request, earlier: usize) -> (Answer, bool) {
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
