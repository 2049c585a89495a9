//! Exactly-once delivery over the embedded broker, which accepts the steps of a transaction and
//! guarantees nothing: these tests cover the written records. `tests/services/delivery.rs` and
//! `tests/services/faults_workers.rs` cover crashes.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use dog_iqa::stream::DeliveryMode;
use serde_json::json;

use crate::stream::{Record, Scene, header, ids, reference};

async fn transactional(partitions: i32) -> Scene {
    let mut scene = Scene::new(partitions).await;
    scene.settings.delivery = DeliveryMode::ExactlyOnce;
    scene.settings.commit_interval = Duration::from_millis(50);
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_record_is_answered_and_none_blocks_the_others() {
    let scene = transactional(3).await;
    let worker = scene.start().await;
    scene.refer("good", 200, "a.png").await;
    let tombstone = |number: usize| Record {
        key: Some(format!("gone-{number}").into_bytes()),
        payload: None,
        ..reference("gone", "a.png")
    };
    scene.write((0..20).map(tombstone).collect()).await;
    scene.refer("broken", 20, "broken.png").await;
    scene.refer("panics", 3, "panics/a.png").await;
    scene.refer("more", 100, "a.png").await;
    assert_eq!(ids(&scene.events(300).await).len(), 300);
    assert_eq!(scene.dead_letters(23).await.len(), 23);
    let summary = worker.stop().await;
    assert_eq!((summary.received, summary.tombstones), (343, 20));
    assert_eq!((summary.events, summary.dead_letters, summary.unanswered), (300, 23, 0));
    assert!(summary.is_committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_behind_a_slow_image_wait_for_it() {
    let scene = transactional(2).await;
    let worker = scene.start().await;
    refer_to(0, &scene, "first", 5, "a.png").await;
    refer_to(0, &scene, "slow", 1, "gated/a.png").await;
    refer_to(0, &scene, "behind", 5, "a.png").await;
    assert_eq!(scene.events(5).await.len(), 5);
    scene.gates.until_inside(1).await;
    // The answers behind the slow image are ready before those of the other partition, and several
    // transactions commit without them.
    let mut written = Vec::new();
    for round in 1..=3 {
        refer_to(1, &scene, &format!("other-{round}"), 5, "a.png").await;
        written = scene.events(5 + 5 * round).await;
    }
    let written: Vec<String> = written.iter().map(ToString::to_string).collect();
    assert!(written.iter().all(|event| !event.contains("behind-")), "{written:?}");
    scene.gates.open();
    assert_eq!(ids(&scene.events(26).await).len(), 26);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_in_flight_limit_commits_before_the_interval() {
    let mut scene = transactional(1).await;
    scene.settings.commit_interval = Duration::from_mins(1);
    scene.settings.in_flight_max = NonZeroUsize::new(8).unwrap();
    let worker = scene.start().await;
    scene.refer("many", 100, "a.png").await;
    // Commits at the interval would take twelve minutes, far longer than a read waits.
    scene.events(90).await;
    // The last few answers do not fill the limit; the stop commits them.
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.unanswered), (summary.received, 0));
    assert!(summary.is_committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_large_is_replaced_and_fails_no_other() {
    let mut scene = transactional(1).await;
    scene.settings.message_bytes_max = ByteSize::kib(64);
    let worker = scene.start().await;
    let metadata = json!({"text": "x".repeat(64_500)});
    let value = json!({"id": "large", "uri": "s3://photos/a.png", "metadata": metadata});
    let large =
        Record { payload: Some(value.to_string().into_bytes()), ..reference("large", "a.png") };
    scene.refer("before", 10, "a.png").await;
    scene.write(vec![large.clone()]).await;
    scene.refer("after", 10, "a.png").await;
    let letters = scene.dead_letters(1).await;
    assert_eq!(header(&letters[0], "dogiqa.error.code").unwrap(), "publish.too_large");
    assert_eq!(rdkafka::Message::payload(&letters[0]), large.payload.as_deref());
    // The broker double shows aborted records, too, so an event may appear twice.
    scene.events(20).await;
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters), (20, 1));
}

async fn refer_to(partition: i32, scene: &Scene, prefix: &str, count: usize, object: &str) {
    let record = |number| Record {
        partition: Some(partition),
        ..reference(&format!("{prefix}-{number}"), object)
    };
    scene.write((0..count).map(record).collect()).await;
}
