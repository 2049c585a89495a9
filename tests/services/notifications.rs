//! An S3 server that publishes its notifications to Kafka, and a worker that reads nothing else.

use std::cell::Cell;
use std::collections::BTreeSet;

use object_store::ObjectStoreExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::images;
use crate::process::Process;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Started, announce, services};
use crate::wait;

#[test]
fn every_object_of_a_bucket_that_publishes_is_answered_once_despite_kills() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "notifications", 1);
    let gateway =
        Started::by("s3.sh", &["--events", services.bootstrap_servers(), &fixture.input()]);
    let value = |name: &str| gateway.value(name).unwrap();
    let samples = images::fifty_images();
    let keys: Vec<&str> = samples.iter().map(|sample| sample.key.as_str()).collect();
    let store = root_store(&gateway);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The gateway writes a notification while it already handles the next request, whose key may
    // then replace the first one. So wait for each notification; the first is a test.
    let published = Cell::new(1);
    let wait_for_notification = || {
        published.set(published.get() + 1);
        assert!(wait::until(|| fixture.input_len() == published.get(), WAIT_MAX));
    };
    let put = |key: &str, bytes: &[u8]| {
        runtime.block_on(store.put(&Path::parse(key).unwrap(), bytes.to_vec().into())).unwrap();
        wait_for_notification();
    };
    for sample in &samples {
        put(&sample.key, &sample.bytes);
    }
    put("notes/a.txt", b"not an image");
    runtime.block_on(store.delete(&Path::from("notes/a.txt"))).unwrap();
    wait_for_notification();

    // All objects once more, in one record.
    fixture.publish(std::iter::once(together(value("S3_BUCKET"), &keys)));

    let settings = [
        format!("storage.s3.endpoint={}", value("S3_ENDPOINT")),
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
    let is_committed = || fixture.is_everything_committed();
    assert!(wait::until(is_committed, 2 * WAIT_MAX), "everything is committed: {}", worker.tail());
    ServiceFixture::stop(worker);

    reader.read_to_end();
    let letters: Vec<_> =
        reader.dead_letters.iter().map(|letter| letter.header("dogiqa.error.message")).collect();
    assert!(letters.is_empty(), "{letters:?}");
    let expected: BTreeSet<String> =
        keys.iter().map(|key| format!("s3://{}/{key}", value("S3_BUCKET"))).collect();
    assert_eq!(reader.events.keys().cloned().collect::<BTreeSet<_>>(), expected, "0 lost");
    let all = || reader.events.values().flatten();
    let event_ids: BTreeSet<_> = all().map(|event| event.json()["event_id"].to_string()).collect();
    assert_eq!((all().count(), event_ids.len()), (2 * samples.len(), 2 * samples.len()), "0 twice");
    for sample in &samples {
        let uri = format!("s3://{}/{}", value("S3_BUCKET"), sample.key);
        for event in &reader.events[&uri] {
            assert_eq!(event.json()["image"]["sha256"], sample.sha256(), "{uri}");
        }
    }
    announce(&format!(
        "notifications: {} records of the gateway and one with {} objects, 2 kills, 0 lost, 0 \
         twice",
        published.get(),
        samples.len()
    ));
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
pub(crate) fn together(bucket: &str, keys: &[&str]) -> PublishedRecord {
    let entry = |key: &&str| {
        let key = utf8_percent_encode(key, NON_ALPHANUMERIC).to_string();
        let (bucket, object) = (json!({"name": bucket}), json!({"key": key}));
        json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": bucket, "object": object}})
    };
    let records = json!({"Records": keys.iter().map(entry).collect::<Vec<_>>()});
    PublishedRecord {
        payload: Some(records.to_string().into_bytes()),
        ..PublishedRecord::default()
    }
}
