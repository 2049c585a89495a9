//! Records per second of the worker, without reasons and with them, compared with librdkafka alone
//! in the same run: a bare loop that consumes the same records and produces payloads of an event's
//! size.
//!
//! The images have 32 × 32 pixels, so their only reason is their size: reasons cost a pass through
//! their stage and a longer event. `cargo bench --bench classic` measures those of larger images.
//!
//! The broker is embedded in this process, the store is in memory and the engine does nothing. All
//! of them share the cores of the process: `taskset -c 0 cargo bench --bench stream` measures one
//! core, broker included.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use dog_iqa::stream::{EmbeddedBroker, Settings, worker};
use dog_iqa::telemetry::Health;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use stream_workload::{client, journey, producer, reference, send};

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/noop.rs"]
mod noop;
#[path = "support/stream_workload.rs"]
mod stream_workload;

const RECORDS: usize = 60_000;
const PARTITIONS: i32 = 4;
/// Approximate size of an event with one region.
const EVENT_BYTES: usize = 1_100;
const BARE_OUTPUT: &str = "bare-output";
const REFUSED_INPUT: &str = "refused-references";

fn main() {
    let mut settings = Settings::default();
    let mut topics = settings.topics().to_vec();
    topics.extend([BARE_OUTPUT, REFUSED_INPUT].map(str::to_owned));
    let broker = EmbeddedBroker::start(&topics, PARTITIONS, None).expect("a broker starts");
    broker.configure(&mut settings);
    // The end is detected from the committed offsets, so they must not lag.
    settings.commit_interval = Duration::from_millis(50);
    // References to a forbidden bucket are refused immediately, which leaves the cost of the stream
    // alone.
    let refused = Settings { input_topic: REFUSED_INPUT.to_owned(), ..settings.clone() };
    write_references(&settings, "photos");
    write_references(&refused, "elsewhere");

    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let bare = bare_loop(&settings);
    let stream = runtime.block_on(run_worker(&refused, false));
    let journey = runtime.block_on(run_worker(&settings, false));
    // Another group reads the same references again.
    let again = Settings { group_id: "with-reasons".to_owned(), ..settings.clone() };
    let reasons = runtime.block_on(run_worker(&again, true));
    println!("                               records/s   of bare   CPU per record");
    let rows = [
        ("bare rdkafka loop", &bare),
        ("worker, references refused", &stream),
        ("worker, no-op engine", &journey),
        ("the same with reasons", &reasons),
    ];
    for (name, figures) in rows {
        let share = figures.records_per_second / bare.records_per_second;
        let (rate, cpu) = (figures.records_per_second, figures.cpu_per_record_us);
        println!("{name:<28} {rate:>11.0} {share:>9.2} {cpu:>13.0} µs");
    }
    let ratio = reasons.records_per_second / journey.records_per_second;
    println!("reasons on / off: {ratio:.2}");
}

struct Figures {
    records_per_second: f64,
    /// CPU time of all threads of this process, including the broker, in microseconds.
    cpu_per_record_us: f64,
}

/// Measures elapsed time and CPU time.
struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_time() }
    }

    fn stop(&self, records: usize) -> Figures {
        let records = records as f64;
        Figures {
            records_per_second: records / self.began.elapsed().as_secs_f64(),
            cpu_per_record_us: cpu_time().saturating_sub(self.cpu).as_secs_f64() * 1e6 / records,
        }
    }
}

/// Returns the CPU time of this process, or 0 if the system does not report it.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own = text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_thread = |entry: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    let all: u64 = threads.filter_map(of_thread).sum();
    Duration::from_nanos(all.max(own.unwrap_or(0)))
}

fn write_references(settings: &Settings, bucket: &str) {
    let producer = producer(settings);
    for number in 0..RECORDS {
        let value = reference(number, bucket);
        send(&producer, &settings.input_topic, number.to_string().as_bytes(), value.as_bytes());
    }
    producer.flush(Duration::from_mins(1)).expect("the broker accepts the references");
}

fn partitions(topic: &str, offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, PARTITIONS - 1);
    list.set_all_offsets(offset).expect("an offset");
    list
}

fn bare_loop(settings: &Settings) -> Figures {
    let consumer: BaseConsumer =
        client(settings).set("group.id", "bare").create().expect("a consumer");
    consumer.assign(&partitions(&settings.input_topic, Offset::Beginning)).expect("partitions");
    let producer = producer(settings);
    // Random characters, because a repeated byte would compress better than events do.
    let payload: Vec<u8> =
        std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(EVENT_BYTES).collect();
    let mut began = None;
    let mut consumed = 0;
    while consumed < RECORDS {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            began.get_or_insert_with(Stopwatch::start);
            let message = message.expect("a record");
            send(&producer, BARE_OUTPUT, message.key().unwrap_or_default(), &payload);
            consumed += 1;
            if consumed % 100 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
    }
    producer.flush(Duration::from_mins(1)).expect("the broker accepts the records");
    began.expect("at least one record was consumed").stop(RECORDS)
}

async fn run_worker(settings: &Settings, has_reasons: bool) -> Figures {
    let shutdown = CancellationToken::new();
    let journey = journey(has_reasons).await;
    let run = worker::run(settings.clone(), journey, Health::starting(), shutdown.clone());
    let worker = tokio::spawn(run);
    let watch_settings = settings.clone();
    let watch = tokio::task::spawn_blocking(move || watch_commits(&watch_settings));
    let figures = watch.await.expect("the watch ends");
    shutdown.cancel();
    let summary = worker.await.expect("no panic").expect("a graceful end");
    assert_eq!(summary.events + summary.dead_letters, RECORDS as u64, "every record has an answer");
    figures
}

/// Measures from the first visible commit to the last one.
fn watch_commits(settings: &Settings) -> Figures {
    let consumer: BaseConsumer =
        client(settings).set("group.id", &settings.group_id).create().expect("a consumer");
    let committed = || {
        let list = partitions(&settings.input_topic, Offset::Invalid);
        let list = consumer.committed_offsets(list, Duration::from_mins(1)).expect("offsets");
        let offset = |offset: Offset| usize::try_from(offset.to_raw().unwrap_or(0)).unwrap_or(0);
        list.elements().iter().map(|element| offset(element.offset())).sum::<usize>()
    };
    let mut first = None;
    loop {
        let records = committed();
        if records > 0 {
            let (stopwatch, before) = first.get_or_insert_with(|| (Stopwatch::start(), records));
            if records == RECORDS {
                return stopwatch.stop(records - *before);
            }
        }
        consumer.poll(Duration::from_millis(10));
    }
}
