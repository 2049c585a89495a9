//! Faults of the worker's own access to a store: they hold references and make no dead letters. The
//! store is a server on loopback that answers like S3.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dog_iqa::stream::DeliveryMode;
use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use serde_json::json;

use crate::stream::{PATIENCE, Record, Scene, header, ids, png, until};
use crate::web_server::{Answer, WebServer};

fn object() -> Answer {
    let headers = "ETag: \"v1\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    Answer::status(200, headers, png(24, 16))
}

fn error(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>asked to</Message></Error>");
    Answer::status(status, "Content-Type: application/xml\r\n", body)
}

/// A store that serves every object, unless its switch is on.
struct Switched {
    server: WebServer,
    is_on: Arc<AtomicBool>,
}

impl Switched {
    fn answering(fault: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let is_on = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&is_on);
        let server =
            WebServer::start(
                move |_, _| {
                    if switch.load(Ordering::SeqCst) { fault() } else { object() }
                },
            );
        Self { server, is_on }
    }

    fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::SeqCst);
    }
}

/// Allows a bucket whose endpoint is the server.
fn allow(scene: &mut Scene, bucket: &str, server: &WebServer) {
    scene.storage.allow_buckets.push(format!("s3://{bucket}"));
    scene.storage.s3_buckets.insert(bucket.to_owned(), server.as_s3());
}

fn references(bucket: &str, prefix: &str, count: usize) -> Vec<Record> {
    let record = |number| {
        let id = format!("{prefix}-{number}");
        let value = json!({"id": id, "uri": format!("s3://{bucket}/{id}.png")});
        Record { payload: Some(value.to_string().into_bytes()), ..Record::default() }
    };
    (0..count).map(record).collect()
}

async fn assert_no_dead_letter(scene: &Scene) {
    assert_eq!(scene.written(&scene.settings.dead_letter_topic).await, 0, "dead letters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_expire_and_come_back_lose_no_reference_in_both_modes() {
    for delivery in [DeliveryMode::AtLeastOnce, DeliveryMode::ExactlyOnce] {
        let store = Switched::answering(|| error(400, "ExpiredToken"));
        let mut scene = Scene::new(1).await;
        scene.settings.delivery = delivery;
        allow(&mut scene, "remote", &store.server);
        let worker = scene.start().await;
        scene.write(references("remote", "before", 20)).await;
        scene.events(20).await;
        worker.until_ready().await;
        store.switch(true);
        scene.write(references("remote", "during", 100)).await;
        worker.until_unready().await;
        assert_no_dead_letter(&scene).await;
        store.switch(false);
        assert_eq!(ids(&scene.events(120).await).len(), 120);
        worker.until_ready().await;
        let summary = worker.stop().await;
        assert!(summary.is_committed && summary.dead_letters == 0, "{summary:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_demands_a_pause_of_an_hour_makes_the_worker_unready_at_once() {
    let store = Switched::answering(|| Answer::status(503, "Retry-After: 3600\r\n", "later"));
    store.switch(true);
    let mut scene = Scene::new(1).await;
    allow(&mut scene, "remote", &store.server);
    let worker = scene.start().await;
    worker.until_ready().await;
    scene.write(references("remote", "during", 20)).await;
    worker.until_unready().await;
    assert_no_dead_letter(&scene).await;
    store.switch(false);
    // Its success ends the pause of the others.
    scene.write(references("remote", "after", 1)).await;
    assert_eq!(ids(&scene.events(21).await).len(), 21);
    worker.until_ready().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_that_are_refused_without_a_request_end_no_outage() {
    let store = Switched::answering(|| error(500, "InternalError"));
    store.switch(true);
    let mut scene = Scene::new(1).await;
    scene.settings.outage_after = Duration::from_millis(500);
    allow(&mut scene, "remote", &store.server);
    let worker = scene.start().await;
    worker.until_ready().await;
    let mut written = 0;
    while worker.health.is_ready() {
        scene.write(references("remote", &format!("before-{written}"), 10)).await;
        written += 10;
    }
    scene.write(references("remote", "during", 30)).await;
    let mut refused = references("remote", "../refused", 1);
    let etag = json!({"id": "refused", "uri": "s3://remote/a.png", "etag": "\"open"});
    refused.push(Record { payload: Some(etag.to_string().into_bytes()), ..Record::default() });
    scene.write(refused).await;
    let deadline = Instant::now() + PATIENCE;
    while count_refused(&scene.dead_letters(2).await) < 2 {
        assert!(Instant::now() < deadline, "both are refused");
    }
    store.switch(false);
    scene.write(references("remote", "after", 1)).await;
    worker.until_ready().await;
    let letters = scene.dead_letters(2).await;
    let is_held = |letter: &OwnedMessage| {
        String::from_utf8_lossy(letter.payload().unwrap_or_default()).contains("during-")
    };
    assert!(!letters.iter().any(is_held), "an outage has ended although the store never answered");
    let answered = scene.events(written + 30 + 1 + 2 - letters.len()).await;
    assert_eq!(answered.len() + letters.len(), written + 30 + 1 + 2);
    worker.stop().await;
}

fn count_refused(letters: &[OwnedMessage]) -> usize {
    let codes = letters.iter().filter_map(|letter| header(letter, "dogiqa.error.code"));
    codes.filter(|code| code != "fetch.unavailable").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_denies_every_object_is_held_until_it_may_be_read() {
    let store = Switched::answering(|| error(403, "AccessDenied"));
    store.switch(true);
    let mut scene = Scene::new(1).await;
    allow(&mut scene, "remote", &store.server);
    let worker = scene.start().await;
    worker.until_ready().await;
    scene.write(references("remote", "denied", 50)).await;
    worker.until_unready().await;
    assert_no_dead_letter(&scene).await;
    store.switch(false);
    assert_eq!(ids(&scene.events(50).await).len(), 50);
    worker.until_ready().await;
    let summary = worker.stop().await;
    assert!(summary.is_committed && summary.dead_letters == 0, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_may_be_read_ends_an_outage_of_denied_images() {
    let server = WebServer::start(|request, _| {
        let headers = "Content-Type: application/pdf\r\nETag: \"v1\"\r\n\
                       Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
        let is_document = request.target.contains("document");
        if is_document { Answer::status(200, headers, "%PDF") } else { error(403, "AccessDenied") }
    });
    let mut scene = Scene::new(1).await;
    allow(&mut scene, "remote", &server);
    let worker = scene.start().await;
    worker.until_ready().await;
    scene.write(references("remote", "denied", 20)).await;
    worker.until_unready().await;
    assert_no_dead_letter(&scene).await;
    let s3 = json!({"bucket": {"name": "remote"}, "object": {"key": "document", "size": 4}});
    let created = json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": s3}]});
    let payload = Some(created.to_string().into_bytes());
    scene.write(vec![Record { payload, ..Record::default() }]).await;
    let letters = scene.dead_letters(20).await;
    let codes = letters.iter().filter_map(|letter| header(letter, "dogiqa.error.code"));
    assert_eq!(codes.filter(|code| code == "fetch.forbidden").count(), 20);
    worker.until_ready().await;
    let summary = worker.stop().await;
    assert_eq!((summary.skipped, summary.dead_letters), (1, 20), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_forbidden_object_among_good_ones_becomes_a_dead_letter() {
    let server = WebServer::start(|request, _| {
        let is_forbidden = request.target.contains("forbidden");
        if is_forbidden { error(403, "AccessDenied") } else { object() }
    });
    let mut scene = Scene::new(1).await;
    allow(&mut scene, "remote", &server);
    let worker = scene.start().await;
    worker.until_ready().await;
    scene.write(references("remote", "forbidden", 2)).await;
    until("both are denied", || server.requests().len() >= 2).await;
    // Only a read that begins after the denial shows that the credentials still work.
    scene.write(references("remote", "good", 20)).await;
    let letters = scene.dead_letters(2).await;
    for letter in &letters {
        assert_eq!(header(letter, "dogiqa.error.code").unwrap(), "fetch.forbidden");
        let message = header(letter, "dogiqa.error.message").unwrap();
        assert!(message.contains("403 AccessDenied \"asked to\""), "{message}");
    }
    assert_eq!(scene.events(20).await.len(), 20);
    assert!(worker.health.is_ready());
    worker.stop().await;
}

/// Accepts `rate` requests a second, with a burst of as many.
struct TokenBucket {
    rate: f64,
    state: Mutex<(Instant, f64)>,
    rejected: AtomicUsize,
}

impl TokenBucket {
    fn new(rate: f64) -> Self {
        Self { rate, state: Mutex::new((Instant::now(), rate)), rejected: AtomicUsize::new(0) }
    }

    fn accepts(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(state.0).as_secs_f64() * self.rate;
        *state = (now, (state.1 + earned).min(self.rate));
        let is_accepted = state.1 >= 1.0;
        if is_accepted {
            state.1 -= 1.0;
        } else {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
        is_accepted
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_store_loses_no_reference_and_delays_no_other_store() {
    const EACH: usize = 100;
    let bucket = Arc::new(TokenBucket::new(15.0));
    let throttled = {
        let bucket = Arc::clone(&bucket);
        WebServer::start(
            move |_, _| {
                if bucket.accepts() { object() } else { error(503, "SlowDown") }
            },
        )
    };
    let healthy = WebServer::start(|_, _| object());
    let mut scene = Scene::new(1).await;
    allow(&mut scene, "throttled", &throttled);
    allow(&mut scene, "healthy", &healthy);
    let worker = scene.start().await;
    worker.until_ready().await;
    let slow = references("throttled", "throttled", EACH);
    let fast = references("healthy", "healthy", EACH);
    scene.write(slow.into_iter().zip(fast).flat_map(|(slow, fast)| [slow, fast]).collect()).await;
    let events = scene.events(2 * EACH).await;
    assert_eq!(ids(&events).len(), 2 * EACH);
    // The topic has one partition, so the events are in the order in which they were published.
    let of = |prefix: &str| {
        let is_of = |id: &serde_json::Value| id.as_str().unwrap().starts_with(prefix);
        let positions = events.iter().enumerate();
        let positions = positions.filter(|(_, event)| is_of(&event["reference"]["id"]));
        positions.map(|(position, _)| position).collect::<Vec<_>>()
    };
    let (slow, fast) = (of("throttled"), of("healthy"));
    assert!(fast[EACH - 1] < slow[EACH * 9 / 10], "the healthy store waited");
    assert!(bucket.rejected.load(Ordering::Relaxed) > 0, "the store throttled nothing");
    assert!(worker.health.is_ready());
    let summary = worker.stop().await;
    assert!(summary.is_committed && summary.dead_letters == 0, "{summary:?}");
}
