//! Notifications of stores through a worker: each object of a record is answered once, and the
//! record is committed with the last of its answers, in both modes of delivery.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use dog_iqa::event::notification::InputFormat;
use dog_iqa::stream::{DeliveryMode, Summary};
use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use serde_json::{Value, json};

use crate::stream::{Record, Running, Scene, header, ids, reference};

const MODES: [DeliveryMode; 2] = [DeliveryMode::AtLeastOnce, DeliveryMode::ExactlyOnce];

async fn scene(partitions: i32, delivery: DeliveryMode) -> Scene {
    let mut scene = Scene::new(partitions).await;
    scene.settings.delivery = delivery;
    scene.settings.commit_interval = Duration::from_millis(50);
    scene
}

/// An element of `Records` for an object of the bucket in memory.
fn created(key: &str) -> Value {
    event("ObjectCreated:Put", &json!({"key": key, "size": 100}))
}

fn event(name: &str, object: &Value) -> Value {
    json!({"eventName": name, "s3": {"bucket": {"name": "photos"}, "object": object}})
}

fn record(entries: &[Value]) -> Record {
    let payload = json!({"Records": entries}).to_string().into_bytes();
    Record { payload: Some(payload), ..Record::default() }
}

fn uris(events: &[Value]) -> Vec<&str> {
    let mut uris: Vec<_> =
        events.iter().map(|event| event["reference"]["uri"].as_str().unwrap()).collect();
    uris.sort_unstable();
    uris
}

fn event_ids(events: &[Value]) -> HashSet<&str> {
    events.iter().map(|event| event["event_id"].as_str().unwrap()).collect()
}

/// Stops the worker after it has committed all records of the only partition.
async fn finish(scene: &Scene, worker: Running, records: i64) -> Summary {
    // The broker double does not keep the positions of transactions.
    if scene.settings.delivery == DeliveryMode::AtLeastOnce {
        scene.until_offsets(|offsets| offsets == [(records, records)]).await;
    }
    let summary = worker.stop().await;
    assert!(summary.is_committed && summary.unanswered == 0, "{summary:?}");
    summary
}

fn with_code<'a>(letters: &'a [OwnedMessage], code: &str) -> Vec<&'a OwnedMessage> {
    let has_code = |letter: &&OwnedMessage| header(letter, "dogiqa.error.code").unwrap() == code;
    letters.iter().filter(has_code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_object_of_a_record_is_answered_once_and_replayed_alone() {
    for delivery in MODES {
        let scene = scene(1, delivery).await;
        let worker = scene.start().await;
        let mut missing = created("no+such%2Fa.png");
        missing["opaqueData"] = json!("kept");
        let entries = [
            created("a.png"),
            missing.clone(),
            event("ObjectRemoved:Delete", &json!({"key": "a.png"})),
            created("large.png"),
            created("b%.png"),
        ];
        let several = Record {
            key: Some(b"bucket".to_vec()),
            headers: vec![("tenant", Some(b"t".to_vec()))],
            ..record(&entries)
        };
        scene.write(vec![several, reference("last", "a.png")]).await;
        let mut events = scene.events(3).await;
        events.sort_by_key(|event| event["source"]["index"].as_u64().map_or(9, |index| index));
        assert_eq!(
            uris(&events),
            ["s3://photos/a.png", "s3://photos/a.png", "s3://photos/large.png"]
        );
        assert_eq!(event_ids(&events).len(), 3);
        let positions: Vec<_> = events
            .iter()
            .map(|event| (event["source"]["offset"].as_i64(), event["source"]["index"].as_i64()))
            .collect();
        assert_eq!(positions, [(Some(0), Some(0)), (Some(0), Some(3)), (Some(1), None)]);
        let letters = scene.dead_letters(2).await;
        assert_eq!(with_code(&letters, "reference.invalid_key").len(), 1);
        let [lost] = with_code(&letters, "fetch.not_found")[..] else { panic!("{letters:?}") };
        assert_eq!(header(lost, "dogiqa.error.original.index").as_deref(), Some("1"));
        assert_eq!(header(lost, "tenant").as_deref(), Some("t"));
        assert_eq!(lost.key(), Some(&b"bucket"[..]));
        let alone: Value = serde_json::from_slice(lost.payload().unwrap()).unwrap();
        assert_eq!(alone, json!({"Records": [missing]}));

        // Its value is a record of its own.
        let replayed = Record { payload: lost.payload().map(<[u8]>::to_vec), ..Record::default() };
        scene.write(vec![replayed]).await;
        let letters = scene.dead_letters(3).await;
        let again = with_code(&letters, "fetch.not_found");
        assert_eq!((again.len(), again[0].payload()), (2, again[1].payload()));
        let keyless = again.iter().find(|letter| letter.key() != Some(b"bucket")).unwrap();
        let position = format!("{}-0-2", scene.settings.input_topic);
        assert_eq!(keyless.key(), Some(position.as_bytes()));
        let summary = finish(&scene, worker, 3).await;
        assert_eq!((summary.received, summary.skipped), (3, 1));
        assert_eq!((summary.events, summary.dead_letters), (3, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_object_holds_back_the_commit_of_its_record() {
    let scene = scene(1, DeliveryMode::AtLeastOnce).await;
    let worker = scene.start().await;
    scene.write(vec![record(&[created("a.png"), created("gated/a.png")])]).await;
    scene.write(vec![record(&[created("a.png"), created("large.png")])]).await;
    scene.gates.until_inside(1).await;
    assert_eq!(scene.events(3).await.len(), 3);
    // Several commits are due meanwhile.
    scene.refer("later", 5, "a.png").await;
    scene.events(8).await;
    assert_eq!(scene.offsets().await, [(0, 7)]);
    scene.gates.open();
    scene.until_offsets(|offsets| offsets == [(7, 7)]).await;
    assert_eq!(event_ids(&scene.events(9).await).len(), 9);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_of_a_record_are_in_one_transaction() {
    let scene = scene(2, DeliveryMode::ExactlyOnce).await;
    let worker = scene.start().await;
    let entries = [created("a.png"), created("gated/a.png"), created("absent.png")];
    scene.write(vec![Record { partition: Some(0), ..record(&entries) }]).await;
    scene.gates.until_inside(1).await;
    for round in 1..=3 {
        let other = reference(&format!("other-{round}"), "a.png");
        scene.write(vec![Record { partition: Some(1), ..other }]).await;
        let events = scene.events(round).await;
        assert!(ids(&events).iter().all(|id| id.starts_with("other-")), "{events:?}");
    }
    assert_eq!(scene.written(&scene.settings.dead_letter_topic).await, 0);
    scene.gates.open();
    assert_eq!(event_ids(&scene.events(5).await).len(), 5);
    assert_eq!(scene.dead_letters(1).await.len(), 1);
    assert!(worker.stop().await.is_committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ends_within_a_record_loses_none_of_its_objects() {
    for delivery in MODES {
        let mut scene = scene(1, delivery).await;
        scene.settings.drain_timeout = Duration::from_millis(500);
        let entries: Vec<_> = (0..10)
            .map(|number| created(if number % 2 == 0 { "a.png" } else { "gated/a.png" }))
            .collect();
        scene.write(vec![record(&entries)]).await;
        let worker = scene.start().await;
        scene.gates.until_inside(5).await;
        if delivery == DeliveryMode::AtLeastOnce {
            scene.events(5).await;
        }
        let summary = worker.stop().await;
        assert_eq!(summary.unanswered, 1, "{delivery:?}");
        assert_eq!(scene.offsets().await, [(0, 1)]);
        scene.gates.open();
        let worker = scene.start().await;
        let repeated = if delivery == DeliveryMode::AtLeastOnce { 5 } else { 0 };
        let events = scene.events(10 + repeated).await;
        assert_eq!(events.len(), 10 + repeated, "{delivery:?}");
        assert_eq!(event_ids(&events).len(), 10, "repeated answers have the same id");
        assert_eq!(finish(&scene, worker, 1).await.events, 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_too_large_delays_no_other_object() {
    for delivery in MODES {
        let mut scene = scene(1, delivery).await;
        scene.settings.message_bytes_max = ByteSize::kib(64);
        let worker = scene.start().await;
        let mut huge = created("absent.png");
        huge["opaqueData"] = json!("x".repeat(65_500));
        scene.write(vec![record(&[created("a.png"), huge, created("large.png")])]).await;
        let letters = scene.dead_letters(1).await;
        let last = letters.last().unwrap();
        assert_eq!(header(last, "dogiqa.error.code").unwrap(), "fetch.not_found");
        assert_eq!(header(last, "dogiqa.error.left_out").unwrap(), "value");
        // The broker double shows aborted records, too.
        assert_eq!(event_ids(&scene.events(2).await).len(), 2);
        let summary = finish(&scene, worker, 1).await;
        assert_eq!((summary.events, summary.dead_letters), (2, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_notifications_read_nothing_that_is_not_allowed() {
    for delivery in MODES {
        let scene = scene(1, delivery).await;
        let worker = scene.start().await;
        let mut elsewhere = created("a.png");
        elsewhere["s3"]["bucket"]["name"] = json!("private");
        let mut disguised = created("a.png");
        disguised["s3"]["bucket"]["name"] = json!("photos/../private");
        let too_large =
            event("ObjectCreated:Put", &json!({"key": "gated/a.png", "size": 1_u64 << 40}));
        let upwards = created("..%2Fprivate%2Fa.png");
        let all = [elsewhere, disguised, too_large, upwards, created("a.png")];
        let many = record(&vec![created("a.png"); 5_000]);
        let bridged = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {
            "bucket": {"name": "private"}, "object": {"key": "a.png"}}});
        let grid = json!([{"eventType": "Microsoft.Storage.BlobCreated", "data": {
            "url": "https://evil.blob.core.windows.net/photos/a.png"}}]);
        let value = |value: Value| Record {
            payload: Some(value.to_string().into_bytes()),
            ..Record::default()
        };
        scene.write(vec![record(&all), many.clone(), value(bridged), value(grid)]).await;
        let letters = scene.dead_letters(7).await;
        assert_eq!(with_code(&letters, "uri.forbidden_bucket").len(), 3);
        assert_eq!(with_code(&letters, "reference.invalid_field").len(), 1);
        assert_eq!(with_code(&letters, "fetch.unsupported_key").len(), 1);
        assert_eq!(with_code(&letters, "fetch.too_large").len(), 1);
        assert_eq!(scene.gates.entered(), 0, "it was refused without a request");
        let [refused] = with_code(&letters, "reference.too_many_objects")[..] else {
            panic!("{letters:?}")
        };
        assert_eq!(refused.payload(), many.payload.as_deref());
        assert!(header(refused, "dogiqa.error.message").unwrap().contains("5000 objects"));
        assert_eq!(uris(&scene.events(1).await), ["s3://photos/a.png"]);
        finish(&scene, worker, 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_media_types_decide_which_objects_are_images() {
    for delivery in MODES {
        let mut scene = scene(1, delivery).await;
        scene.storage.keys.include = vec!["*.png".to_owned()];
        scene.storage.keys.exclude = vec!["thumbnails/*".to_owned()];
        let worker = scene.start().await;
        let typed = |content_type: &str| {
            event("ObjectCreated:Put", &json!({"key": "a.png", "contentType": content_type}))
        };
        let entries = [
            created("a.png"),
            created("notes.txt"),
            created("thumbnails/a.png"),
            typed("text/html"),
            typed("image/png"),
            created("folder/"),
        ];
        scene.write(vec![record(&entries), record(&entries[1..4])]).await;
        // A reference asks for its object, whatever the key.
        scene.write(vec![reference("asked", "thumbnails/a.png")]).await;
        assert_eq!(event_ids(&scene.events(2).await).len(), 2);
        assert_eq!(scene.dead_letters(1).await.len(), 1);
        assert_eq!(finish(&scene, worker, 3).await.skipped, 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_media_type_in_the_store_decides_if_the_notification_has_none() {
    for delivery in MODES {
        let mut scene = scene(1, delivery).await;
        let worker = scene.start().await;
        let typed =
            event("ObjectCreated:Put", &json!({"key": "html.png", "contentType": "image/png"}));
        let bridged = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {
            "bucket": {"name": "photos"}, "object": {"key": "html.png"}}});
        let list = Record {
            payload: Some(
                json!([created("a.png"), created("html.png"), bridged]).to_string().into(),
            ),
            ..Record::default()
        };
        // The sender's word, and a reference, count more than the store's.
        scene.write(vec![list, record(&[typed]), reference("asked", "html.png")]).await;
        let events = scene.events(3).await;
        assert_eq!(
            uris(&events),
            ["s3://photos/a.png", "s3://photos/html.png", "s3://photos/html.png"]
        );
        let summary = finish(&scene, worker, 3).await;
        assert_eq!((summary.skipped, summary.dead_letters), (2, 0), "{delivery:?}");

        scene.storage.keys.content_types = Vec::new();
        let worker = scene.start().await;
        scene.write(vec![record(&[created("html.png")])]).await;
        scene.events(4).await;
        assert_eq!(finish(&scene, worker, 4).await.skipped, 0, "every type is assessed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_a_list_is_answered_once_and_replayed_alone() {
    for delivery in MODES {
        let scene = scene(1, delivery).await;
        let worker = scene.start().await;
        let missing = json!({"account": "3f4b", "action": "PutObject", "bucket": "photos",
            "object": {"key": "absent.png", "size": 3}});
        let batch = json!([
            1,
            {"specversion": "1.0", "id": "e1", "source": "/s", "type": "photo.uploaded",
                "data": {"uri": "s3://photos/a.png"}},
            missing,
            created("large.png"),
            event("ObjectRemoved:Delete", &json!({"key": "a.png"})),
        ]);
        let value = |value: &Value| Record {
            payload: Some(value.to_string().into_bytes()),
            headers: vec![("content-type", Some(b"application/cloudevents-batch+json".to_vec()))],
            ..Record::default()
        };
        scene.write(vec![value(&batch), value(&json!([]))]).await;
        let events = scene.events(2).await;
        assert_eq!(uris(&events), ["s3://photos/a.png", "s3://photos/large.png"]);
        assert_eq!(event_ids(&events).len(), 2);
        assert!(ids(&events).contains("e1"), "the id of its CloudEvent");
        let letters = scene.dead_letters(2).await;
        let [refused] = with_code(&letters, "reference.not_an_object")[..] else {
            panic!("{letters:?}")
        };
        assert_eq!(refused.payload(), Some(&b"[1]"[..]));
        let [lost] = with_code(&letters, "fetch.not_found")[..] else { panic!("{letters:?}") };
        assert_eq!(header(lost, "dogiqa.error.original.index").as_deref(), Some("2"));
        let alone: Value = serde_json::from_slice(lost.payload().unwrap()).unwrap();
        assert_eq!(alone, json!([missing]));
        scene.write(vec![value(&alone)]).await;
        assert_eq!(with_code(&scene.dead_letters(3).await, "fetch.not_found").len(), 2);
        let summary = finish(&scene, worker, 3).await;
        assert_eq!((summary.events, summary.dead_letters, summary.skipped), (2, 3, 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_changed_since_an_older_event_is_no_error() {
    let scene = scene(1, DeliveryMode::AtLeastOnce).await;
    let worker = scene.start().await;
    let put = |key: &str, etag: Value, sequencer: &str| {
        let object = json!({"key": key, "eTag": etag, "sequencer": sequencer});
        record(&[event("ObjectCreated:Put", &object)])
    };
    let removed = event("ObjectRemoved:Delete", &json!({"key": "gone.png", "sequencer": "0B"}));
    scene.write(vec![put("a.png", Value::Null, "05"), record(&[removed])]).await;
    scene.until_offsets(|offsets| offsets == [(2, 2)]).await;
    scene
        .write(vec![
            put("a.png", json!("overwritten"), "04"),
            put("gone.png", Value::Null, "0A"),
            put("a.png", json!("overwritten"), "06"),
            put("lost.png", Value::Null, "04"),
        ])
        .await;
    let letters = scene.dead_letters(2).await;
    assert_eq!(with_code(&letters, "fetch.etag_mismatch").len(), 1, "no later event explains it");
    assert_eq!(with_code(&letters, "fetch.not_found").len(), 1);
    scene.until_offsets(|offsets| offsets == [(6, 6)]).await;
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters, summary.skipped), (1, 2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_objects_of_a_record_count_against_the_limit() {
    for delivery in MODES {
        let mut scene = scene(1, delivery).await;
        scene.settings.in_flight_max = NonZeroUsize::new(8).unwrap();
        let worker = scene.start().await;
        let five = record(&vec![created("gated/a.png"); 5]);
        let alone = record(&vec![created("a.png"); 20]);
        scene.write(vec![five.clone(), five.clone(), alone, five]).await;
        scene.gates.until_inside(5).await;
        scene.gates.open();
        assert_eq!(event_ids(&scene.events(35).await).len(), 35);
        assert!(scene.gates.inside_max() <= 8, "{}", scene.gates.inside_max());
        assert_eq!(finish(&scene, worker, 4).await.events, 35);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_another_format_than_configured_is_a_dead_letter() {
    let mut scene = scene(1, DeliveryMode::AtLeastOnce).await;
    scene.settings.input_format = InputFormat::S3;
    let worker = scene.start().await;
    scene.write(vec![reference("plain", "a.png"), record(&[created("a.png")])]).await;
    let letters = scene.dead_letters(1).await;
    assert_eq!(header(&letters[0], "dogiqa.error.code").unwrap(), "reference.unexpected_format");
    assert_eq!(uris(&scene.events(1).await), ["s3://photos/a.png"]);
    worker.stop().await;
}
