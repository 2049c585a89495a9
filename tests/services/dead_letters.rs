//! `dogiqa dead-letters` on a real broker: listed, and replayed byte for byte and exactly once,
//! also after an interruption.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use chrono::{TimeDelta, Utc};
use dog_iqa::event::{DeadLetterReason, Source};
use serde_json::{Value, json};

use crate::bucket::{self, PHOTOS};
use crate::images;
use crate::process::Process;
use crate::raw_produce::{self, RawRecord};
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX, headers_of_every_kind};
use crate::services::{announce, services};
use crate::topic_reader::Answer;
use crate::wait;

const BAD_HEADER_NAME: &[u8] = b"x-\xFF\xFE";
/// Enough records for many transactions.
const DEAD_LETTERS: usize = 10_000;

fn run_dead_letters(fixture: &ServiceFixture, arguments: &[&str]) -> Output {
    let arguments = [&["dead-letters"], arguments].concat();
    let output = fixture.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Counts the occurrences of `part`.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

/// Returns a dead letter as a worker writes it, for a record of the input topic at this offset.
fn dead_letter(
    fixture: &ServiceFixture,
    offset: usize,
    code: &str,
    stage: &str,
    age: TimeDelta,
) -> PublishedRecord {
    let reason = DeadLetterReason {
        code: code.to_owned(),
        message: format!("the error of offset {offset}"),
        stage: stage.to_owned(),
        attempts: 3,
        time: Utc::now() - age,
        group: "another-group".to_owned(),
        version: "0.1.0".to_owned(),
        original: Source {
            topic: fixture.input(),
            partition: i32::try_from(offset % 3).unwrap(),
            offset: i64::try_from(offset).unwrap(),
            timestamp: None,
            index: None,
        },
    };
    let headers = reason.headers().into_iter();
    PublishedRecord {
        key: Some(offset.to_string().into_bytes()),
        headers: headers.map(|(name, value)| (name, Some(value.into_bytes()))).collect(),
        payload: Some(json!({"uri": "s3://b/k", "id": offset.to_string()}).to_string().into()),
    }
}

#[test]
fn list_shows_the_dead_letters_that_match_and_counts_them_by_code() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "list", 3);
    let records = [
        dead_letter(&fixture, 0, "fetch.not_found", "fetch", TimeDelta::zero()),
        dead_letter(&fixture, 1, "fetch.timeout", "fetch", TimeDelta::hours(5)),
        dead_letter(&fixture, 2, "decode.empty", "decode", TimeDelta::hours(1)),
        PublishedRecord {
            payload: Some(b"\xFF\xFE".to_vec()),
            ..dead_letter(&fixture, 3, "a.b", "fetch", TimeDelta::hours(9))
        },
        PublishedRecord { payload: Some(b"no dead letter".to_vec()), ..PublishedRecord::default() },
    ];
    fixture.publish_to(&fixture.dead_letters(), records.into_iter());

    let output = run_dead_letters(&fixture, &["list"]);
    let (table, summary) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(table.lines().count(), 1 + 4, "{table}");
    let origin = format!("{}/1@1", fixture.input());
    let line = table.lines().find(|line| line.contains(&origin)).unwrap();
    assert!(line.contains("fetch.timeout") && line.ends_with("the error of offset 1"), "{line}");
    for counted in ["dead letters: 4", "1  fetch.not_found", "no dead letters of this service: 1"] {
        assert!(summary.contains(counted), "{counted}: {summary}");
    }

    let codes = |arguments: &[&str]| -> Vec<String> {
        let arguments = [&["list", "--format", "jsonl"], arguments].concat();
        let output = run_dead_letters(&fixture, &arguments);
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

    let output = run_dead_letters(&fixture, &["list", "--format", "jsonl", "--code", "a.b"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["key"], &shown["value_base64"]), (&json!("3"), &json!("//4=")));
    assert_eq!((&shown["reference"], &shown["replays"]), (&Value::Null, &json!(0)));
}

#[test]
fn a_replay_sends_the_original_record_and_the_worker_answers_it() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "replay-fixed", 1);
    let uncompressed = "kafka.properties.compression_type=none".to_owned();
    let worker = fixture.start_worker("the worker", std::slice::from_ref(&uncompressed));
    let headers = headers_of_every_kind();
    let reference = |key: Option<&[u8]>, object: &str| PublishedRecord {
        key: key.map(<[u8]>::to_vec),
        headers: headers.clone(),
        payload: Some(
            json!({"id": object, "uri": bucket::uri(services, object)}).to_string().into(),
        ),
    };
    let records = [
        reference(Some(b"\x00\xFF"), "fixed/late.jpg"),
        reference(None, "fixed/later.jpg"),
        reference(Some(b""), "fixed/never.jpg"),
    ];
    fixture.publish(records.iter().cloned());
    let value = reference(None, "fixed/late.jpg").payload.unwrap();
    let poison = RawRecord { key: b"poison", value: &value, header: (BAD_HEADER_NAME, b"noir") };
    raw_produce::produce(services.bootstrap_servers(), &fixture.input(), &poison);
    let mut reader = fixture.answer_reader();
    reader.read_until(&[&worker], |reader| reader.dead_letters.len() == 4);

    let replay = |arguments: &[&str]| {
        let arguments = [&["replay", "--set", &uncompressed], arguments].concat();
        run_dead_letters(&fixture, &arguments)
    };
    let before = fixture.end_offsets(&fixture.input());
    let output = replay(&["--code", "fetch.not_found", "--dry-run"]);
    assert_eq!(count(text(&output.stdout), &format!("to {}/0", fixture.input())), 3);
    assert!(text(&output.stderr).contains("3 would be sent, 0 sent before"));
    assert_eq!(fixture.end_offsets(&fixture.input()), before, "a dry run sends nothing");

    let photo = images::jpeg(&image::RgbImage::from_pixel(40, 30, image::Rgb([90, 120, 30])), 90);
    let fixed = ["fixed/late.jpg", "fixed/later.jpg"].map(|key| (key, photo.as_slice()));
    bucket::put_all(services, PHOTOS, fixed.into_iter());
    let output = replay(&["--code", "fetch.not_found"]);
    assert!(text(&output.stderr).contains("3 sent, 0 sent before"), "{}", text(&output.stderr));
    reader.read_until(&[&worker], |reader| {
        reader.event_count() == 2 && reader.dead_letters.len() == 5
    });
    assert_eq!(reader.events.keys().collect::<Vec<_>>(), ["fixed/late.jpg", "fixed/later.jpg"]);

    // The second failure has the record's headers, a replay count, and only the new error.
    let again = &reader.dead_letters[4];
    assert_eq!(again.header("dogiqa.replay.count"), Some("1"));
    assert_eq!(again.headers[..4], headers);
    let codes = again.headers.iter().filter(|(name, _)| name == "dogiqa.error.code");
    assert_eq!(codes.count(), 1, "{again:?}");
    assert!(again.header("dogiqa.error.original.offset") > Some("3"), "{again:?}");

    // Two are left: the poisoned record and the record that failed twice.
    let output = replay(&[]);
    assert!(text(&output.stderr).contains("2 sent, 3 sent before"), "{}", text(&output.stderr));
    reader.read_until(&[&worker], |reader| reader.dead_letters.len() == 7);
    let is_committed = wait::until(|| fixture.is_everything_committed(), WAIT_MAX);
    assert!(is_committed, "a replay leaves lag behind its transaction markers");
    ServiceFixture::stop(worker);
    let mut input = fixture.input_reader();
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 4 + 3 + 2);
    let (once, twice) = input.dead_letters[4..].split_at(3);
    for record in &records {
        assert_is_replayed(once, record, "1");
    }
    assert_is_replayed(twice, &records[2], "2");
    assert_poison_was_published_twice(&fixture);
}

/// Asserts that `record` was replayed. The order of replays is not fixed.
fn assert_is_replayed(sent: &[Answer], record: &PublishedRecord, replays: &str) {
    let sent = sent.iter().find(|sent| Some(&sent.payload) == record.payload.as_ref()).unwrap();
    assert_eq!(sent.key, record.key);
    let (counted, original) = sent.headers.split_last().unwrap();
    assert_eq!(original, record.headers);
    assert_eq!(*counted, ("dogiqa.replay.count".to_owned(), Some(replays.into())));
}

/// Looks for the header in the broker's log, because the client library cannot read its name.
fn assert_poison_was_published_twice(fixture: &ServiceFixture) {
    let folder = format!("node-1/data/{}-0", fixture.input());
    let folder = Path::new(fixture.services.value("KAFKA_DIR")).join(folder);
    let segment = std::fs::read(folder.join("00000000000000000000.log")).unwrap();
    let header = raw_produce::encoded_header(BAD_HEADER_NAME, b"noir");
    let copies = segment.windows(header.len()).filter(|window| *window == header).count();
    assert_eq!(copies, 2, "the header of the original record and of its replay");
}

#[test]
fn a_killed_replay_repeated_with_other_filters_sends_each_record_once() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "replay-killed", 3);
    let stages = [("fetch.forbidden", "fetch"), ("decode.empty", "decode")];
    let records = (0..DEAD_LETTERS).map(|number| {
        let (code, stage) = stages[number % 2];
        dead_letter(&fixture, number, code, stage, TimeDelta::zero())
    });
    fixture.publish_to(&fixture.dead_letters(), records);
    let mut input = fixture.input_reader();
    let mut command = fixture.command(&["dead-letters", "replay"]);
    let first = Process::spawn("the killed replay", &mut command);
    input.read_until(&[], |input| !input.dead_letters.is_empty());
    first.kill();
    input.read_to_end();
    let sent = input.dead_letters.len();
    assert!((1..DEAD_LETTERS).contains(&sent), "it was not interrupted: {sent} sent");

    run_dead_letters(&fixture, &["replay", "--code", "fetch", "--limit", "100"]);
    let output = run_dead_letters(&fixture, &["replay", "--stage", "fetch"]);
    announce(&format!("replay, kill -9: of {DEAD_LETTERS}, then {}", text(&output.stderr).trim()));
    run_dead_letters(&fixture, &["replay", "--since", "1h"]);
    let output = run_dead_letters(&fixture, &["replay"]);
    let nothing = format!("0 sent, {DEAD_LETTERS} sent before, 0 refused");
    assert!(text(&output.stderr).contains(&nothing), "{}", text(&output.stderr));

    input.read_to_end();
    let mut times = BTreeMap::<usize, usize>::new();
    for record in &input.dead_letters {
        let number: usize = text(record.key.as_deref().unwrap()).parse().unwrap();
        assert_eq!(record.partition, i32::try_from(number % 3).unwrap(), "its partition");
        *times.entry(number).or_default() += 1;
    }
    assert_eq!(times.len(), DEAD_LETTERS, "records that were sent");
    assert!(times.values().all(|times| *times == 1), "a record was sent twice");
}

#[test]
fn a_second_replay_fences_the_first_one_and_no_record_is_sent_twice() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "replay-fenced", 3);
    let records = (0..60)
        .map(|number| dead_letter(&fixture, number, "fetch.timeout", "fetch", TimeDelta::zero()));
    fixture.publish_to(&fixture.dead_letters(), records);
    let mut input = fixture.input_reader();
    // At this rate the replay takes a minute.
    let mut command = fixture.command(&["dead-letters", "replay", "--rate", "1/s"]);
    let first = Process::spawn("the first replay", &mut command);
    input.read_until(&[&first], |input| !input.dead_letters.is_empty());
    run_dead_letters(&fixture, &["replay"]);
    first.wait_for_line("another replay of replay-fenced.dead-letters began", WAIT_MAX);
    assert_eq!(first.wait(WAIT_MAX).code(), Some(1));
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 60);
}

#[test]
fn a_dead_letter_that_cannot_be_replayed_is_reported_and_the_rest_is_sent() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "replay-refused", 3);
    let fetch = |number| dead_letter(&fixture, number, "fetch.timeout", "fetch", TimeDelta::zero());
    let to = |number, topic: &str| {
        let mut letter = fetch(number);
        let name = "dogiqa.error.original.topic".to_owned();
        letter.headers.push((name, Some(topic.as_bytes().to_vec())));
        letter
    };
    let mut incomplete = fetch(4);
    incomplete.headers.push(("dogiqa.error.left_out".to_owned(), Some(b"value".to_vec())));
    let records = [
        to(0, &fixture.events()),
        to(1, &fixture.dead_letters()),
        to(2, "replay-refused.missing"),
        to(3, "no\0name"),
        incomplete,
        fetch(5),
        PublishedRecord { payload: Some(b"no dead letter".to_vec()), ..PublishedRecord::default() },
    ];
    fixture.publish_to(&fixture.dead_letters(), records.into_iter());
    let output = fixture.command(&["dead-letters", "replay"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "not all were sent");
    let errors = text(&output.stderr);
    assert!(errors.contains("1 sent, 0 sent before, 5 refused"), "{errors}");
    assert_eq!(count(errors, "takes answers"), 2, "{errors}");
    assert_eq!(count(errors, "does not exist"), 2, "{errors}");
    assert_eq!(count(errors, "did not fit"), 1, "{errors}");
    assert!(errors.contains("no dead letters of this service: 1"), "{errors}");
    let mut input = fixture.input_reader();
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 1);

    // With `--to` and `--again` they can be sent to another topic.
    let input_topic = fixture.input();
    let elsewhere = ["replay", "--to", &input_topic, "--again", "--limit", "5"];
    let output = fixture.command(&[&["dead-letters"], &elsewhere[..]].concat()).output().unwrap();
    assert!(text(&output.stderr).contains("5 sent, 0 sent before"), "{}", text(&output.stderr));
    input.read_to_end();
    assert_eq!(input.dead_letters.len(), 6);
    let output =
        fixture.command(&["dead-letters", "replay", "--to", &fixture.events()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot be sent to"), "{}", text(&output.stderr));
}
