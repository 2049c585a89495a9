//! An S3 server that publishes its notifications to Kafka, and a worker that reads nothing else.

use std::cell::Cell;
use std::collections::BTreeSet;

use object_store::ObjectStoreExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use crate::http;
use crate::images::{self, Sample};
use crate::process::Process;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Started, announce, services};
use crate::topic_reader::Answer;
use crate::wait;

/// The key of an object with two versions.
const OVERWRITTEN: &str = "versions/a";

/// The bucket of a server that publishes its notifications, and the records in the topic.
struct PublishingBucket<'a> {
    fixture: &'a ServiceFixture,
    name: &'a str,
    store: AmazonS3,
    runtime: Runtime,
    published: Cell<usize>,
}

#[test]
fn every_object_of_a_bucket_that_publishes_is_answered_once_despite_kills() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "notifications", 1);
    let gateway =
        Started::by("s3.sh", &["--events", services.bootstrap_servers(), &fixture.input()]);
    let bucket = PublishingBucket::new(&fixture, &gateway);
    let samples = images::fifty_images();
    for sample in &samples {
        bucket.put(&sample.key, &sample.bytes);
    }
    // The gateway names the version of a copy, and of no other object.
    for sample in &samples[..2] {
        bucket.copy(&sample.key, OVERWRITTEN);
    }

    // All objects once more, in one record.
    let keys: Vec<&str> = samples.iter().map(|sample| sample.key.as_str()).collect();
    bucket.publish(&[together(bucket.name, &keys)]);

    let settings = [
        format!("storage.s3.endpoint={}", gateway.value("S3_ENDPOINT").unwrap()),
        "storage.keys.exclude=[\"*.txt\"]".to_owned(),
        "kafka.delivery=exactly-once".to_owned(),
        "kafka.transactional_id=notifications".to_owned(),
        "kafka.commit_interval=100ms".to_owned(),
    ];
    let mut reader = fixture.answer_reader();
    for share in [1, 2] {
        let worker = fixture.start_worker("a worker to be killed", &settings);
        let wanted = share * samples.len() / 3;
        reader.read_until(&[&worker], |reader| reader.event_count() >= wanted);
        Process::kill(worker);
    }
    let worker = fixture.start_worker("the worker", &settings);
    skip_one_of_each(&bucket, &worker);
    let is_committed = || fixture.is_everything_committed();
    assert!(wait::until(is_committed, 2 * WAIT_MAX), "everything is committed: {}", worker.tail());
    ServiceFixture::stop(worker);

    reader.read_to_end();
    let letters: Vec<_> =
        reader.dead_letters.iter().map(|letter| letter.header("dogiqa.error.message")).collect();
    assert!(letters.is_empty(), "{letters:?}");
    let uri = |key: &str| format!("s3://{}/{key}", bucket.name);
    let expected: BTreeSet<String> = keys.iter().copied().chain([OVERWRITTEN]).map(uri).collect();
    assert_eq!(reader.events.keys().cloned().collect::<BTreeSet<_>>(), expected, "0 lost");
    let all = || reader.events.values().flatten();
    let event_ids: BTreeSet<_> = all().map(|event| event.json()["event_id"].to_string()).collect();
    let answers = 2 * samples.len() + 2;
    assert_eq!((all().count(), event_ids.len()), (answers, answers), "0 twice");
    let hashes = |key: &str| -> BTreeSet<String> {
        let hash = |event: &Answer| event.json()["image"]["sha256"].as_str().unwrap().to_owned();
        reader.events[&uri(key)].iter().map(hash).collect()
    };
    for sample in &samples {
        assert_eq!(hashes(&sample.key), BTreeSet::from([sample.sha256()]), "{}", sample.key);
    }
    let versions = samples[..2].iter().map(Sample::sha256).collect();
    assert_eq!(hashes(OVERWRITTEN), versions, "each version is read");
    announce(&format!(
        "notifications: {} records, of which one with {} objects, 2 kills, 0 lost, 0 twice",
        bucket.published.get(),
        samples.len()
    ));
}

/// Publishes an event of each kind that needs no answer, and waits until the worker has counted it.
fn skip_one_of_each(bucket: &PublishingBucket<'_>, worker: &Process) {
    bucket.put("notes/a.txt", b"not an image");
    bucket.delete("notes/a.txt");
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent",
        "Time": "2026-11-29T06:00:00.000Z", "Bucket": bucket.name, "RequestId": "R", "HostId": "H"});
    bucket.publish(&[json!([]), test]);
    let address = http::served_address(worker);
    let are_counted = || {
        let (_, page) = http::get(&address, "/metrics");
        ["empty", "key", "removed", "test"].into_iter().all(|reason| {
            page.contains(&format!("dogiqa_notifications_skipped_total{{reason=\"{reason}\"}} 1\n"))
        })
    };
    assert!(wait::until(are_counted, 2 * WAIT_MAX), "{}", http::get(&address, "/metrics").1);
    worker.wait_for_line("storage.keys leaves out notified objects", WAIT_MAX);
}

impl<'a> PublishingBucket<'a> {
    fn new(fixture: &'a ServiceFixture, gateway: &'a Started) -> Self {
        Self {
            fixture,
            name: gateway.value("S3_BUCKET").unwrap(),
            store: root_store(gateway),
            runtime: runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            // The gateway has tested the connection.
            published: Cell::new(1),
        }
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let payload = bytes.to_vec().into();
        self.runtime.block_on(self.store.put(&Path::parse(key).unwrap(), payload)).unwrap();
        self.wait_for_notification();
    }

    fn copy(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|key| Path::parse(key).unwrap());
        self.runtime.block_on(self.store.copy(&from, &to)).unwrap();
        self.wait_for_notification();
    }

    fn delete(&self, key: &str) {
        self.runtime.block_on(self.store.delete(&Path::from(key))).unwrap();
        self.wait_for_notification();
    }

    /// Publishes records as other stores write them.
    fn publish(&self, values: &[Value]) {
        self.fixture.publish(values.iter().map(|value| PublishedRecord {
            payload: Some(value.to_string().into_bytes()),
            ..PublishedRecord::default()
        }));
        self.published.set(self.published.get() + values.len());
    }

    /// Waits for the notification of the last request. The gateway writes it while it already
    /// handles the next one, whose key may then replace the first one.
    fn wait_for_notification(&self) {
        self.published.set(self.published.get() + 1);
        let is_published = || self.fixture.input_len() == self.published.get();
        assert!(wait::until(is_published, WAIT_MAX));
    }
}

fn root_store(gateway: &Started) -> AmazonS3 {
    let value = |name: &str| gateway.value(name).unwrap();
    AmazonS3Builder::new()
        .with_endpoint(value("S3_ENDPOINT"))
        .with_allow_http(true)
        .with_region(value("S3_REGION"))
        .with_access_key_id(value("S3_ROOT_KEY"))
        .with_secret_access_key(value("S3_ROOT_SECRET"))
        .with_bucket_name(value("S3_BUCKET"))
        .build()
        .unwrap()
}

/// Returns one notification of all keys.
pub(crate) fn together(bucket: &str, keys: &[&str]) -> Value {
    let entry = |key: &&str| {
        let key = utf8_percent_encode(key, NON_ALPHANUMERIC).to_string();
        let (bucket, object) = (json!({"name": bucket}), json!({"key": key}));
        json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": bucket, "object": object}})
    };
    json!({"Records": keys.iter().map(entry).collect::<Vec<_>>()})
}
