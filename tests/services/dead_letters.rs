//! Dead letters on a real broker: shown, sent again byte for byte, and each once, whatever is interrupted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use chrono::{TimeDelta, Utc};
use dog_iqa::event::{DeadLetterReason, Source};
use serde_json::{Value, json};

use crate::bucket::{self, PHOTOS};
use crate::images;
use crate::oracle::Answer;
use crate::process::Process;
use crate::scene::{PATIENCE, Record, Scene, headers_of_every_kind};
use crate::services::{announce, services};
use crate::wire::{self, RawRecord};

const BAD_HEADER_NAME: &[u8] = b"x-\xFF\xFE";
/// Enough for many transactions.
const LETTERS: usize = 10_000;

fn dead_letters(scene: &Scene, arguments: &[&str]) -> Output {
    let arguments = [&["dead-letters"], arguments].concat();
    let output = scene.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// How often a text stands in another.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

/// A dead letter as a worker writes it, of a record at this offset of the input topic's first partition.
fn letter(scene: &Scene, offset: usize, (code, stage): (&str, &str), age: TimeDelta) -> Record {
    let reason = DeadLetterReason {
        code: code.to_owned(),
        message: format!("what was wrong with {offset}"),
        stage: stage.to_owned(),
        attempts: 3,
        time: Utc::now() - age,
        group: "somebody".to_owned(),
        version: "0.1.0".to_owned(),
        original: Source {
            topic: scene.input(),
            partition: i32::try_from(offset % 3).unwrap(),
            offset: i64::try_from(offset).unwrap(),
            timestamp: None,
        },
    };
    let headers = reason.headers().into_iter();
    Record {
        key: Some(offset.to_string().into_bytes()),
        headers: headers.map(|(name, value)| (name, Some(value.into_bytes()))).collect(),
        payload: Some(json!({"uri": "s3://b/k", "id": offset.to_string()}).to_string().into()),
    }
}

#[test]
fn the_list_shows_what_the_filters_ask_for_and_counts_it_by_code() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "list", 3);
    let letters = [
        letter(&scene, 0, ("fetch.not_found", "fetch"), TimeDelta::zero()),
        letter(&scene, 1, ("fetch.timeout", "fetch"), TimeDelta::hours(5)),
        letter(&scene, 2, ("decode.empty", "decode"), TimeDelta::hours(1)),
        Record {
            payload: Some(b"\xFF\xFE".to_vec()),
            ..letter(&scene, 3, ("a.b", "fetch"), TimeDelta::hours(9))
        },
        Record { payload: Some(b"no dead letter".to_vec()), ..Record::default() },
    ];
    scene.publish_to(&scene.dead_letters(), letters.into_iter());

    let output = dead_letters(&scene, &["list"]);
    let (table, summary) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(table.lines().count(), 1 + 4, "{table}");
    let origin = format!("{}/1@1", scene.input());
    let line = table.lines().find(|line| line.contains(&origin)).unwrap();
    assert!(line.contains("fetch.timeout") && line.ends_with("what was wrong with 1"), "{line}");
    for counted in ["dead letters: 4", "1  fetch.not_found", "no dead letters of this service: 1"] {
        assert!(summary.contains(counted), "{counted}: {summary}");
    }

    let codes = |arguments: &[&str]| -> Vec<String> {
        let arguments = [&["list", "--format", "jsonl"], arguments].concat();
        let output = dead_letters(&scene, &arguments);
        let lines = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap());
        let code = |letter: Value| letter["error"]["code"].as_str().unwrap().to_owned();
        let mut codes: Vec<_> = lines.map(code).collect();
        codes.sort();
        codes
    };
    assert_eq!(codes(&["--code", "fetch"]), ["fetch.not_found", "fetch.timeout"]);
    assert_eq!(
        codes(&["--code", "fetch.timeout", "--code", "decode"]),
        ["decode.empty", "fetch.timeout"]
    );
    assert_eq!(codes(&["--stage", "decode"]), ["decode.empty"]);
    assert_eq!(codes(&["--since", "2h"]), ["decode.empty", "fetch.not_found"]);
    assert_eq!(codes(&["--since", "6h", "--until", "30m"]), ["decode.empty", "fetch.timeout"]);
    assert_eq!(codes(&["--id", "2"]), ["decode.empty"]);
    assert_eq!(codes(&["--limit", "3"]).len(), 3);

    let output = dead_letters(&scene, &["list", "--format", "jsonl", "--code", "a.b"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["key"], &shown["value_base64"]), (&json!("3"), &json!("//4=")));
    assert_eq!((&shown["reference"], &shown["replays"]), (&Value::Null, &json!(0)));
}

#[test]
fn what_is_mended_is_sent_again_as_it_came_and_answered_this_time() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "mended", 1);
    let uncompressed = "kafka.properties.compression_type=none".to_owned();
    let worker = scene.start_worker("the worker", std::slice::from_ref(&uncompressed));
    let headers = headers_of_every_kind();
    let reference = |key: Option<&[u8]>, object: &str| Record {
        key: key.map(<[u8]>::to_vec),
        headers: headers.clone(),
        payload: Some(
            json!({"id": object, "uri": bucket::uri(services, object)}).to_string().into(),
        ),
    };
    let records = [
        reference(Some(b"\x00\xFF"), "mended/late.jpg"),
        reference(None, "mended/later.jpg"),
        reference(Some(b""), "mended/never.jpg"),
    ];
    scene.publish(records.iter().cloned());
    let value = reference(None, "mended/late.jpg").payload.unwrap();
    let poison = RawRecord { key: b"poison", value: &value, header: (BAD_HEADER_NAME, b"noir") };
    wire::produce(services.bootstrap_servers(), &scene.input(), &poison);
    let mut oracle = scene.oracle();
    oracle.read_until(&[&worker], |oracle| oracle.dead_letters.len() == 4);

    let replay = |arguments: &[&str]| {
        let arguments = [&["replay", "--set", &uncompressed], arguments].concat();
        dead_letters(&scene, &arguments)
    };
    let before = scene.end_offsets(&scene.input());
    let output = replay(&["--code", "fetch.not_found", "--dry-run"]);
    assert_eq!(count(text(&output.stdout), &format!("to {}/0", scene.input())), 3);
    assert!(text(&output.stderr).contains("3 would be sent, 0 sent before"));
    assert_eq!(scene.end_offsets(&scene.input()), before, "a dry run sends nothing");

    let photo = images::jpeg(&image::RgbImage::from_pixel(40, 30, image::Rgb([90, 120, 30])), 90);
    let mended = ["mended/late.jpg", "mended/later.jpg"].map(|key| (key, photo.as_slice()));
    bucket::put_all(services, PHOTOS, mended.into_iter());
    let output = replay(&["--code", "fetch.not_found"]);
    assert!(text(&output.stderr).contains("3 sent, 0 sent before"), "{}", text(&output.stderr));
    oracle.read_until(&[&worker], |oracle| {
        oracle.event_count() == 2 && oracle.dead_letters.len() == 5
    });
    assert_eq!(oracle.events.keys().collect::<Vec<_>>(), ["mended/late.jpg", "mended/later.jpg"]);

    // It failed a second time: the record with its count, and the new reason alone.
    let again = &oracle.dead_letters[4];
    assert_eq!(again.header("dogiqa.replay.count"), Some("1"));
    assert_eq!(again.headers[..4], headers);
    let codes = again.headers.iter().filter(|(name, _)| name == "dogiqa.error.code");
    assert_eq!(codes.count(), 1, "{again:?}");
    assert!(again.header("dogiqa.error.original.offset") > Some("3"), "{again:?}");

    // The two that are left: the poisoned one and that which failed twice.
    let output = replay(&[]);
    assert!(text(&output.stderr).contains("2 sent, 3 sent before"), "{}", text(&output.stderr));
    oracle.read_until(&[&worker], |oracle| oracle.dead_letters.len() == 7);
    Scene::stop(worker);
    let mut input = scene.input_oracle();
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 4 + 3 + 2);
    let (once, twice) = input.dead_letters[4..].split_at(3);
    for record in &records {
        assert_is_replayed(once, record, "1");
    }
    assert_is_replayed(twice, &records[2], "2");
    assert_poison_is_there_twice(&scene);
}

/// Answers come in no order, and so do dead letters and their replays.
fn assert_is_replayed(sent: &[Answer], record: &Record, replays: &str) {
    let sent = sent.iter().find(|sent| Some(&sent.payload) == record.payload.as_ref()).unwrap();
    assert_eq!(sent.key, record.key);
    let (counted, own) = sent.headers.split_last().unwrap();
    assert_eq!(own, record.headers);
    assert_eq!(*counted, ("dogiqa.replay.count".to_owned(), Some(replays.into())));
}

/// Its header went round as it came: the client library cannot say so, the broker's disk can.
fn assert_poison_is_there_twice(scene: &Scene) {
    let folder = format!("node-1/data/{}-0", scene.input());
    let folder = Path::new(scene.services.value("KAFKA_DIR")).join(folder);
    let segment = std::fs::read(folder.join("00000000000000000000.log")).unwrap();
    let header = wire::encoded_header(BAD_HEADER_NAME, b"noir");
    let kept = segment.windows(header.len()).filter(|window| *window == header).count();
    assert_eq!(kept, 2, "the header of the record that came, and that of its replay");
}

#[test]
fn a_replay_that_is_killed_and_run_again_with_other_filters_sends_each_letter_once() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "replay-killed", 3);
    let stages = [("fetch.forbidden", "fetch"), ("decode.empty", "decode")];
    let letters =
        (0..LETTERS).map(|number| letter(&scene, number, stages[number % 2], TimeDelta::zero()));
    scene.publish_to(&scene.dead_letters(), letters);
    let mut input = scene.input_oracle();
    let mut command = scene.command(&["dead-letters", "replay"]);
    let first = Process::spawn("the killed replay", &mut command);
    input.read_until(&[], |input| !input.dead_letters.is_empty());
    first.kill();
    input.read_to_end();
    let sent = input.dead_letters.len();
    assert!((1..LETTERS).contains(&sent), "it was not interrupted: {sent} sent");

    dead_letters(&scene, &["replay", "--code", "fetch", "--limit", "100"]);
    let output = dead_letters(&scene, &["replay", "--stage", "fetch"]);
    announce(&format!("replay, kill -9: of {LETTERS}, then {}", text(&output.stderr).trim()));
    dead_letters(&scene, &["replay", "--since", "1h"]);
    let output = dead_letters(&scene, &["replay"]);
    let nothing = format!("0 sent, {LETTERS} sent before, 0 refused");
    assert!(text(&output.stderr).contains(&nothing), "{}", text(&output.stderr));

    input.read_to_end();
    let mut times = BTreeMap::<usize, usize>::new();
    for record in &input.dead_letters {
        let number: usize = text(record.key.as_deref().unwrap()).parse().unwrap();
        assert_eq!(record.partition, i32::try_from(number % 3).unwrap(), "its partition");
        *times.entry(number).or_default() += 1;
    }
    assert_eq!(times.len(), LETTERS, "letters that were sent");
    assert!(times.values().all(|times| *times == 1), "a letter was sent twice");
}

#[test]
fn a_second_replay_puts_the_first_one_out_and_nothing_is_sent_twice() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "replay-fenced", 3);
    let letters =
        (0..60).map(|number| letter(&scene, number, ("fetch.timeout", "fetch"), TimeDelta::zero()));
    scene.publish_to(&scene.dead_letters(), letters);
    let mut input = scene.input_oracle();
    // A minute of work.
    let mut command = scene.command(&["dead-letters", "replay", "--rate", "1/s"]);
    let first = Process::spawn("the first replay", &mut command);
    input.read_until(&[&first], |input| !input.dead_letters.is_empty());
    dead_letters(&scene, &["replay"]);
    first.wait_for_line("another replay of replay-fenced.dead-letters began", PATIENCE);
    assert_eq!(first.wait(PATIENCE).code(), Some(1));
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 60);
}

#[test]
fn what_cannot_be_sent_is_refused_by_name_and_does_not_hold_up_the_rest() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "replay-refused", 3);
    let fetch = |number| letter(&scene, number, ("fetch.timeout", "fetch"), TimeDelta::zero());
    let to = |number, topic: &str| {
        let mut letter = fetch(number);
        let name = "dogiqa.error.original.topic".to_owned();
        letter.headers.push((name, Some(topic.as_bytes().to_vec())));
        letter
    };
    let mut cut = fetch(4);
    cut.headers.push(("dogiqa.error.left_out".to_owned(), Some(b"value".to_vec())));
    let letters = [
        to(0, &scene.events()),
        to(1, &scene.dead_letters()),
        to(2, "replay-refused.is-gone"),
        to(3, "no\0name"),
        cut,
        fetch(5),
        Record { payload: Some(b"no dead letter".to_vec()), ..Record::default() },
    ];
    scene.publish_to(&scene.dead_letters(), letters.into_iter());
    let output = scene.command(&["dead-letters", "replay"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "not all were sent");
    let errors = text(&output.stderr);
    assert!(errors.contains("1 sent, 0 sent before, 5 refused"), "{errors}");
    assert_eq!(count(errors, "takes answers"), 2, "{errors}");
    assert_eq!(count(errors, "does not exist"), 2, "{errors}");
    assert_eq!(count(errors, "did not fit"), 1, "{errors}");
    assert!(errors.contains("no dead letters of this service: 1"), "{errors}");
    let mut input = scene.input_oracle();
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 1);

    // Elsewhere they can go, and once more if one insists.
    let input_topic = scene.input();
    let elsewhere = ["replay", "--to", &input_topic, "--again", "--limit", "5"];
    let output = scene.command(&[&["dead-letters"], &elsewhere[..]].concat()).output().unwrap();
    assert!(text(&output.stderr).contains("5 sent, 0 sent before"), "{}", text(&output.stderr));
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 6);
    let output =
        scene.command(&["dead-letters", "replay", "--to", &scene.events()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot be sent to"), "{}", text(&output.stderr));
}
