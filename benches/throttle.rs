//! Time for the references of a healthy store, alone and next to a store that accepts 15 requests a
//! second. Both stores are HTTP servers of this process, the broker is embedded, the engine does
//! nothing.
//!
//! The references of both stores alternate, 500 of each: no more than the worker has in flight.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dog_iqa::storage::{self, Stores};
use dog_iqa::stream::{EmbeddedBroker, Settings, worker};
use dog_iqa::telemetry::Health;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use stream_workload::{client, journey_with, png, producer, reference, send};
use web_server::{Answer, WebServer};

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/noop.rs"]
mod noop;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
#[path = "support/stream_workload.rs"]
mod stream_workload;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/web_server.rs"]
mod web_server;

/// References to each store.
const EACH: usize = 500;
/// Requests a second that the throttling store accepts, and its burst.
const RATE: f64 = 15.0;
const HEALTHY: &str = "healthy";
const THROTTLED: &str = "throttled";

fn main() {
    let bucket = Mutex::new((Instant::now(), RATE));
    let throttled =
        WebServer::start(move |_, _| if accepts(&bucket) { object() } else { slow_down() });
    let healthy = WebServer::start(|_, _| object());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    // The first run warms up.
    let run = |buckets: &[&str]| runtime.block_on(time_of(buckets, &healthy, &throttled));
    run(&[HEALTHY]);
    let alone = run(&[HEALTHY]);
    let together = run(&[HEALTHY, THROTTLED]);
    println!("{EACH} references of a healthy store, alone                {alone:>7.2} s");
    println!("the same next to {EACH} of a store that accepts {RATE:.0}/s   {together:>7.2} s");
    println!("time next to it / time alone: {:.2}", together / alone);
}

/// Takes a token from a bucket that refills at [`RATE`].
fn accepts(bucket: &Mutex<(Instant, f64)>) -> bool {
    let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let tokens = (bucket.1 + now.duration_since(bucket.0).as_secs_f64() * RATE).min(RATE);
    let is_accepted = tokens >= 1.0;
    *bucket = (now, if is_accepted { tokens - 1.0 } else { tokens });
    is_accepted
}

fn object() -> Answer {
    let headers = "ETag: \"v1\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    Answer::status(200, headers, png(120))
}

fn slow_down() -> Answer {
    let body = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
    Answer::status(503, "Content-Type: application/xml\r\n", body)
}

fn stores(healthy: &WebServer, throttled: &WebServer) -> Stores {
    let mut settings = storage::Settings::default();
    for (bucket, server) in [(HEALTHY, healthy), (THROTTLED, throttled)] {
        settings.allow_buckets.push(format!("s3://{bucket}"));
        settings.s3_buckets.insert(bucket.to_owned(), server.as_s3());
    }
    Stores::new(&settings).expect("the stores open")
}

/// Returns the seconds from the first reference to the last event of the healthy store.
async fn time_of(buckets: &[&str], healthy: &WebServer, throttled: &WebServer) -> f64 {
    let mut settings = Settings::default();
    let broker = EmbeddedBroker::start(&settings.topics(), 1, None).expect("a broker starts");
    broker.configure(&mut settings);
    let journey = journey_with(stores(healthy, throttled), true).await;
    let (shutdown, health) = (CancellationToken::new(), Health::starting());
    let run = worker::run(settings.clone(), journey, health.clone(), shutdown.clone());
    let worker = tokio::spawn(run);
    while !health.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let buckets: Vec<String> = buckets.iter().map(ToString::to_string).collect();
    let measure = move || {
        let began = Instant::now();
        publish(&settings, &buckets);
        read_healthy(&settings);
        began.elapsed().as_secs_f64()
    };
    let seconds = tokio::task::spawn_blocking(measure).await.expect("the events arrive");
    shutdown.cancel();
    worker.await.expect("no panic").expect("a graceful end");
    seconds
}

fn publish(settings: &Settings, buckets: &[String]) {
    let producer = producer(settings);
    for number in 0..EACH {
        for bucket in buckets {
            let value = reference(number, bucket);
            send(&producer, &settings.input_topic, b"key", value.as_bytes());
        }
    }
    producer.flush(Duration::from_mins(1)).expect("the broker accepts the references");
}

/// Reads until every event of the healthy store has arrived.
fn read_healthy(settings: &Settings) {
    let consumer: BaseConsumer =
        client(settings).set("group.id", "bench").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&settings.output_topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("a partition");
    let mut events = 0;
    while events < EACH {
        let Some(message) = consumer.poll(Duration::from_millis(10)) else { continue };
        let message = message.expect("a record");
        let event: Value =
            serde_json::from_slice(message.payload().expect("an event")).expect("JSON");
        let uri = event["reference"]["uri"].as_str().expect("a URI");
        events += usize::from(uri.contains(HEALTHY));
    }
}
