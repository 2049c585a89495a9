//! Every record gets its answer: events, dead letters byte for byte, tombstones, and offsets that
//! follow. Uses a real worker, the embedded broker, and a store that tests can block.

use bytesize::ByteSize;
use dog_iqa::engine::{Engine, EngineLimits, ModelInfo, RunError, Segmenter};
use dog_iqa::imaging::Picture;
use dog_iqa::method::{Mask, RawMask, Rle};
use dog_iqa::stream::Properties;
use rdkafka::Message;
use rdkafka::message::Headers;
use serde_json::json;

use crate::noop;
use crate::stream::{Record, Scene, header, ids, reference};
use crate::{raw_fetch, raw_produce};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reference_is_answered_once_and_everything_is_committed() {
    let scene = Scene::new(3).await;
    let worker = scene.start().await;
    scene.refer("good", 300, "a.png").await;
    scene.refer("absent", 30, "absent.png").await;
    scene.refer("broken", 30, "broken.png").await;
    let events = scene.events(300).await;
    assert_eq!(ids(&events).len(), 300);
    let dead_letters = scene.dead_letters(60).await;
    assert_eq!(dead_letters.len(), 60);
    for letter in &dead_letters {
        let key = str::from_utf8(letter.key().unwrap()).unwrap();
        let code = header(letter, "dogiqa.error.code").unwrap();
        let stage = header(letter, "dogiqa.error.stage").unwrap();
        let expected = if key.starts_with("absent") {
            ("fetch.not_found", "fetch")
        } else {
            ("decode.unsupported_format", "decode")
        };
        assert_eq!((code.as_str(), stage.as_str()), expected, "{key}");
    }
    assert!(worker.health.is_ready());
    let health = worker.health.clone();
    let summary = worker.stop().await;
    assert!(!health.is_ready());
    assert_eq!((summary.received, summary.events, summary.dead_letters), (360, 300, 60));
    assert!(summary.is_committed && summary.unanswered == 0, "{summary:?}");
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_carry_key_source_and_trace_of_their_record() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let keyed = Record {
        key: Some(b"\xff\x00key".to_vec()),
        headers: vec![("traceparent", Some(trace.into()))],
        ..reference("one", "a.png")
    };
    let empty_key = Record { key: Some(Vec::new()), ..reference("two", "a.png") };
    let no_key = Record { key: None, ..reference("three", "a.png") };
    scene.write(vec![keyed, empty_key, no_key]).await;
    let mut records = scene.read(&[&scene.settings.output_topic], 3).await;
    let value = |record: &rdkafka::message::OwnedMessage| {
        serde_json::from_slice::<serde_json::Value>(record.payload().unwrap()).unwrap()
    };
    records.sort_by_key(|record| value(record)["source"]["offset"].as_i64());
    let keys: Vec<_> = records.iter().map(|record| record.key().unwrap()).collect();
    assert_eq!(keys, [b"\xff\x00key".as_slice(), b"", b"three"]);
    let first = &records[0];
    assert_eq!(value(first)["source"]["topic"], scene.settings.input_topic);
    assert_eq!(header(first, "ce_id").unwrap(), value(first)["event_id"]);
    assert_eq!(header(first, "content-type").unwrap(), "application/json");
    let sent = header(first, "traceparent").unwrap();
    assert_eq!(sent.split('-').nth(1), trace.split('-').nth(1), "the trace continues");
    assert_ne!(sent.split('-').nth(2), trace.split('-').nth(2), "with a span of its own");
    assert!(header(&records[1], "traceparent").is_some(), "or begins");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_head_holds_back_the_commit_and_nothing_else() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    scene.refer("first", 5, "a.png").await;
    scene.refer("slow", 1, "gated/a.png").await;
    scene.refer("later", 50, "a.png").await;
    scene.events(55).await;
    scene.gates.until_inside(1).await;
    // Several commits are due while everything behind the slow head is answered.
    scene.until_offsets(|offsets| offsets == [(5, 56)]).await;
    scene.refer("last", 5, "a.png").await;
    scene.events(60).await;
    assert_eq!(scene.offsets().await, [(5, 61)]);
    scene.gates.open();
    scene.until_offsets(|offsets| offsets == [(61, 61)]).await;
    assert_eq!(ids(&scene.events(61).await).len(), 61);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_continues_after_the_committed_offsets() {
    let scene = Scene::new(2).await;
    scene.refer("before", 100, "a.png").await;
    let worker = scene.start().await;
    scene.events(100).await;
    worker.stop().await;
    scene.refer("after", 100, "a.png").await;
    let worker = scene.start().await;
    assert_eq!(ids(&scene.events(200).await).len(), 200);
    let summary = worker.stop().await;
    assert_eq!(summary.received, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstones_are_skipped_counted_and_committed() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    let tombstone = || Record { key: Some(b"gone".to_vec()), ..Record::default() };
    scene.write(vec![tombstone(), reference("one", "a.png"), tombstone()]).await;
    assert_eq!(scene.events(1).await.len(), 1);
    scene.until_offsets(|offsets| offsets == [(3, 3)]).await;
    let summary = worker.stop().await;
    assert_eq!((summary.received, summary.tombstones, summary.dead_letters), (3, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_the_record_as_it_came() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    // A first byte of 0 would be a schema registry's.
    let payload: Vec<u8> = (0..=255).rev().collect();
    let odd = Record {
        key: Some(vec![0, 159, 146, 150]),
        payload: Some(payload.clone()),
        headers: vec![
            ("tenant", Some(b"a".to_vec())),
            ("null", None),
            ("bytes", Some(vec![0, 255])),
            ("tenant", Some(b"b".to_vec())),
            ("empty", Some(Vec::new())),
        ],
        ..Record::default()
    };
    let keyless = Record { key: None, payload: Some(Vec::new()), ..Record::default() };
    scene.write(vec![odd, keyless]).await;
    let letters = scene.dead_letters(2).await;
    let with_key = |key: &[u8]| letters.iter().find(|letter| letter.key() == Some(key)).unwrap();
    let odd = with_key(&[0, 159, 146, 150]);
    assert_eq!(header(odd, "dogiqa.error.generated_key"), None);
    assert_eq!(odd.payload().unwrap(), payload);
    let named: Vec<_> = odd.headers().unwrap().iter().take(5).map(|h| (h.key, h.value)).collect();
    let expected: [(&str, Option<&[u8]>); 5] = [
        ("tenant", Some(b"a")),
        ("null", None),
        ("bytes", Some(&[0, 255])),
        ("tenant", Some(b"b")),
        ("empty", Some(b"")),
    ];
    assert_eq!(named, expected);
    let reason = |name: &str| header(odd, &format!("dogiqa.error.{name}")).unwrap();
    assert_eq!(reason("code"), "reference.invalid_json");
    assert_eq!(reason("stage"), "reference");
    assert_eq!(reason("attempts"), "1");
    assert_eq!(reason("group"), scene.settings.group_id);
    assert_eq!(reason("original.topic"), scene.settings.input_topic);
    assert_eq!((reason("original.partition"), reason("original.offset")), ("0".into(), "0".into()));
    assert!(!reason("message").is_empty() && !reason("time").is_empty());

    let keyless = with_key(format!("{}-0-1", scene.settings.input_topic).as_bytes());
    assert_eq!(header(keyless, "dogiqa.error.generated_key").as_deref(), Some("true"));
    assert_eq!(keyless.payload(), Some(&[][..]), "an empty value is no tombstone");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_whose_name_is_not_text_goes_through_as_it_is() {
    let mut scene = Scene::new(1).await;
    // The broker keeps batches as they are sent: uncompressed, their bytes can be looked for.
    scene.settings.properties = Properties::from_pairs([("compression.type", "none")]);
    let worker = scene.start().await;
    let (name, value) = (b"caf\xe9\xff", b"\x00\x01");
    let record =
        raw_produce::RawRecord { key: b"odd", value: b"{\"uri\":1}", header: (name, value) };
    let servers = scene.broker.bootstrap_servers();
    raw_produce::produce(&servers, &scene.settings.input_topic, &record);
    scene.refer("next", 1, "a.png").await;
    scene.events(1).await;
    scene.until_offsets(|offsets| offsets == [(2, 2)]).await;
    let log = raw_fetch::fetch(&servers, &scene.settings.dead_letter_topic);
    let stands_in_log = |bytes: &[u8]| log.windows(bytes.len()).any(|window| window == bytes);
    assert!(stands_in_log(&raw_produce::encoded_header(name, value)));
    let code = raw_produce::encoded_header(b"dogiqa.error.code", b"reference.invalid_header");
    assert!(stands_in_log(&code));
    assert!(stands_in_log(b"{\"uri\":1}") && stands_in_log(b"odd"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_becomes_a_dead_letter_and_the_partition_continues() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    scene.refer("bad", 3, "panics/a.png").await;
    scene.refer("good", 10, "a.png").await;
    scene.events(10).await;
    let letters = scene.dead_letters(3).await;
    assert!(letters.iter().all(|l| header(l, "dogiqa.error.code").unwrap() == "pipeline.panicked"));
    scene.until_offsets(|offsets| offsets == [(13, 13)]).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_loses_its_masks_first() {
    let scene = Scene::with_engine(1, || {
        let scorer = noop::AlwaysFour::default();
        Engine::new("masks", "1", FineMask, scorer, EngineLimits::default()).unwrap()
    });
    let mut scene = scene.await.with_masks();
    let worker = scene.start().await;
    scene.refer("roomy", 1, "large.png").await;
    let event = &scene.events(1).await[0];
    assert!(event["objects"][0]["mask"].is_object());
    assert!(event.to_string().len() > 64 * 1024, "or the test shows nothing");
    worker.stop().await;

    scene.settings.message_bytes_max = ByteSize::kib(64);
    let worker = scene.start().await;
    scene.refer("tight", 1, "large.png").await;
    let events = scene.events(2).await;
    let tight = events.iter().find(|event| event["reference"]["id"] == "tight-0").unwrap();
    assert!(tight["objects"][0].get("mask").is_none());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_in_any_form_is_a_dead_letter() {
    let mut scene = Scene::new(1).await;
    scene.settings.message_bytes_max = ByteSize::kib(64);
    let worker = scene.start().await;
    // The event repeats the metadata and adds to it: this one is too large as an event only …
    let with_metadata = |id: &str, bytes: usize| {
        let metadata = json!({"text": "x".repeat(bytes)});
        let value = json!({"id": id, "uri": "s3://photos/a.png", "metadata": metadata});
        Record { payload: Some(value.to_string().into_bytes()), ..reference(id, "a.png") }
    };
    let large = with_metadata("large", 64_500);
    // … and this one even as a dead letter.
    let huge = with_metadata("huge", 65_300);
    scene.write(vec![large.clone(), huge]).await;
    let letters = scene.dead_letters(2).await;
    let of = |key: &str| letters.iter().find(|l| l.key() == Some(key.as_bytes())).unwrap();
    assert_eq!(header(of("large"), "dogiqa.error.code").unwrap(), "publish.too_large");
    assert_eq!(of("large").payload(), large.payload.as_deref());
    assert_eq!(header(of("huge"), "dogiqa.error.code").unwrap(), "publish.too_large");
    assert_eq!(of("huge").payload(), Some(&[][..]));
    assert_eq!(header(of("huge"), "dogiqa.error.left_out").unwrap(), "value");
    scene.until_offsets(|offsets| offsets == [(2, 2)]).await;
    worker.stop().await;
}

/// Finds one object whose outline is as long as can be.
struct FineMask;

impl Segmenter for FineMask {
    /// Width and height of the picture.
    type Input = (u32, u32);

    fn info(&self) -> ModelInfo {
        ModelInfo { name: "fine".to_owned(), version: "1".to_owned(), weights: Vec::new() }
    }

    fn prepare(&self, picture: &Picture) -> Result<(u32, u32), RunError> {
        Ok((picture.width(), picture.height()))
    }

    fn cost(_: &(u32, u32)) -> usize {
        1
    }

    fn segment(&self, batch: &[(u32, u32)]) -> Result<Vec<Vec<RawMask>>, RunError> {
        let mask_of = |&(width, height): &(u32, u32)| {
            let rle = Rle::from_row_major(width, height, |x, y| (x + y) % 2 == 0);
            let mask = Mask::new(rle.expect("a valid size")).expect("every second pixel");
            vec![RawMask { mask, predicted_iou: None, stability_score: None }]
        };
        Ok(batch.iter().map(mask_of).collect())
    }
}
