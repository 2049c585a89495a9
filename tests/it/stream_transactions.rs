//! Exactly-once delivery over the embedded broker, which knows the steps of a transaction but keeps no promise of
//! one: what is written, not what a crash does (`tests/services/exactly_once.rs`).

use std::time::{Duration, Instant};

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
async fn every_kind_of_record_is_answered_and_none_holds_up_the_others() {
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
async fn what_is_behind_a_slow_image_waits_for_it() {
    let scene = transactional(1).await;
    let worker = scene.start().await;
    scene.refer("first", 5, "a.png").await;
    scene.refer("slow", 1, "gated/a.png").await;
    scene.refer("behind", 5, "a.png").await;
    assert_eq!(scene.events(5).await.len(), 5);
    scene.gates.until_inside(1).await;
    // Answers behind the slow one are there for long; only its own lets them go.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written: Vec<String> = scene.events(5).await.iter().map(ToString::to_string).collect();
    assert!(written.iter().all(|event| !event.contains("behind-")), "{written:?}");
    scene.gates.open();
    assert_eq!(ids(&scene.events(11).await).len(), 11);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_is_committed_before_its_time() {
    let mut scene = transactional(1).await;
    scene.settings.commit_interval = Duration::from_mins(1);
    scene.settings.in_flight_max = std::num::NonZeroUsize::new(8).unwrap();
    let worker = scene.start().await;
    let began = Instant::now();
    scene.refer("many", 100, "a.png").await;
    // The last few do not fill the house: the stop lets them go.
    scene.events(90).await;
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.unanswered), (summary.received, 0));
    assert!(began.elapsed() < Duration::from_mins(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_large_comes_in_another_form_and_takes_no_other_with_it() {
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
    // The double shows what was aborted, too, so an event may be there twice.
    scene.events(20).await;
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters), (20, 1));
}
