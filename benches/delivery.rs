//! Exactly-once compared with at-least-once delivery on a real Apache Kafka, measured by a reader
//! of committed records: answers per second, and the latency from reference to answer.
//!
//! ```text
//! cargo bench --bench delivery      starts a broker with tests/services/kafka.sh (Java and Maven)
//! ```
//! The engine does nothing and the images are in memory, so delivery dominates. Broker, worker and
//! reader share the cores of this machine. The modes alternate.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/noop.rs"]
mod noop;
#[path = "support/stream_workload.rs"]
mod stream_workload;

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dog_iqa::stream::{DeliveryMode, Settings, worker};
use dog_iqa::telemetry::Health;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use stream_workload::{client, journey, producer, reference, send};

const PARTITIONS: i32 = 4;
/// Number of references in the input topic when a throughput run starts.
const BACKLOG: usize = 60_000;
/// Number of references of a latency run.
const LATENCY_REFERENCES: usize = 10_000;
/// Rate of a latency run, in references per second.
const LATENCY_RATE: usize = 500;
/// Number of runs of each mode.
const TURNS: usize = 2;

fn main() {
    let (mut broker, bootstrap) = start_broker();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("delivery       turn   answers/s      p50, ms      p99, ms");
    for turn in 1..=TURNS {
        for delivery in [DeliveryMode::AtLeastOnce, DeliveryMode::ExactlyOnce] {
            let name = format!("{delivery:?}-{turn}").to_lowercase();
            let settings = |kind: &str| settings(&bootstrap, delivery, &format!("{name}-{kind}"));
            let rate = runtime.block_on(rate(settings("rate")));
            let Latency { median, percentile_99 } = runtime.block_on(latency(settings("latency")));
            println!("{delivery:<14?} {turn:>4} {rate:>11.0} {median:>12.0} {percentile_99:>12.0}");
        }
    }
    // The script stops the broker when its input closes.
    drop(broker.stdin.take());
    broker.wait().unwrap();
}

fn start_broker() -> (Child, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka.sh");
    let mut broker = Command::new(script)
        .arg("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    broker.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    let line = printed.lines().find_map(|line| line.strip_prefix("DOGIQA_KAFKA_BOOTSTRAP="));
    (broker, line.expect("the script prints the broker's address").to_owned())
}

/// Creates topics and returns the settings of a worker on them that commits every second.
fn settings(bootstrap: &str, delivery: DeliveryMode, name: &str) -> Settings {
    let in_flight_max = NonZeroUsize::new(30_000).unwrap();
    let settings = Settings {
        bootstrap_servers: bootstrap.to_owned(),
        group_id: name.to_owned(),
        input_topic: format!("{name}-references"),
        output_topic: format!("{name}-events"),
        dead_letter_topic: format!("{name}-dead-letters"),
        delivery,
        in_flight_max,
        window_max: in_flight_max,
        commit_interval: Duration::from_secs(1),
        commit_completions: NonZeroUsize::new(100_000).unwrap(),
        ..Settings::default()
    };
    let admin: AdminClient<DefaultClientContext> = client(&settings).create().unwrap();
    let names = settings.topics();
    let topic = |name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    let topics: Vec<_> = names.iter().map(|name| topic(name)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin.create_topics(&topics, &AdminOptions::new())).unwrap();
    settings
}

/// Returns the answers per second while a backlog is processed, from the first answer to the last.
async fn rate(settings: Settings) -> f64 {
    write(&settings, BACKLOG, None);
    let reader_settings = settings.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut began = None;
        read(&reader_settings, BACKLOG, |_| {
            began.get_or_insert_with(Instant::now);
        });
        BACKLOG as f64 / began.unwrap().elapsed().as_secs_f64()
    });
    run_worker_until(settings, reader).await
}

/// Milliseconds from a reference's timestamp to its committed answer.
struct Latency {
    median: f64,
    percentile_99: f64,
}

async fn latency(settings: Settings) -> Latency {
    let (reader_settings, writer_settings) = (settings.clone(), settings.clone());
    let reader = tokio::task::spawn_blocking(move || {
        let mut latencies = Vec::with_capacity(LATENCY_REFERENCES);
        read(&reader_settings, LATENCY_REFERENCES, |event| {
            let referred_at = event["source"]["timestamp"].as_f64().unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            latencies.push(now.as_secs_f64() * 1e3 - referred_at);
        });
        latencies.sort_by(f64::total_cmp);
        let count = latencies.len();
        Latency { median: latencies[count / 2], percentile_99: latencies[count * 99 / 100] }
    });
    let writer = tokio::task::spawn_blocking(move || {
        write(&writer_settings, LATENCY_REFERENCES, Some(LATENCY_RATE));
    });
    let figures = run_worker_until(settings, reader).await;
    writer.await.unwrap();
    figures
}

async fn run_worker_until<T>(settings: Settings, reader: tokio::task::JoinHandle<T>) -> T {
    let shutdown = CancellationToken::new();
    let run = worker::run(settings, journey(true).await, Health::starting(), shutdown.clone());
    let worker = tokio::spawn(run);
    let figures = reader.await.unwrap();
    shutdown.cancel();
    worker.await.unwrap().unwrap();
    figures
}

/// Writes references at the given rate, or as fast as possible if there is none.
fn write(settings: &Settings, count: usize, per_second: Option<usize>) {
    let producer = producer(settings);
    let began = Instant::now();
    for number in 0..count {
        if let Some(per_second) = per_second {
            let due = Duration::from_secs_f64(number as f64 / per_second as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let value = reference(number, "photos");
        send(&producer, &settings.input_topic, number.to_string().as_bytes(), value.as_bytes());
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_mins(1)).unwrap();
}

/// Reads `count` committed events.
fn read(settings: &Settings, count: usize, mut each: impl FnMut(&Value)) {
    let consumer: BaseConsumer = client(settings)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&settings.output_topic, 0, PARTITIONS - 1);
    list.set_all_offsets(Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut received = 0;
    while received < count {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        each(&serde_json::from_slice(message.unwrap().payload().unwrap()).unwrap());
        received += 1;
    }
}
