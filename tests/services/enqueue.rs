//! `dogiqa enqueue` with a bucket and with lists, on a real broker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Output;

use crate::bucket;
use crate::images;
use crate::process::Process;
use crate::service_fixture::{ServiceFixture, WAIT_MAX};
use crate::services::{announce, services};
use crate::wait;

/// References of the test that kills the command.
const LISTED: usize = 20_000;
/// References that may be sent twice after a crash, as `--help` states.
const TWICE_MAX: usize = 1_000;

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_object_below_a_prefix_is_sent_with_its_etag_and_answered() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "enqueue-prefix", 3);
    let samples = images::fifty_images();
    let keys: Vec<_> = samples.iter().map(|sample| format!("enqueue/{}", sample.key)).collect();
    let objects =
        keys.iter().zip(&samples).map(|(key, sample)| (key.as_str(), sample.bytes.as_slice()));
    bucket::put_all(services, bucket::PHOTOS, objects.chain([("enqueue/empty.jpg", &[][..])]));

    let prefix = bucket::uri(services, "enqueue/");
    let output =
        fixture.command(&["enqueue"]).args([&prefix, "--metadata", "batch=7"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("50 sent, 1 skipped, 0 refused"), "{}", stderr(&output));

    let records = fixture.input_records();
    let uris: BTreeSet<_> =
        records.iter().map(|(_, value)| value["uri"].as_str().unwrap().to_owned()).collect();
    assert_eq!(uris, keys.iter().map(|key| bucket::uri(services, key)).collect());
    for (key, value) in &records {
        assert_eq!(value["id"].as_str().unwrap().as_bytes(), key);
        assert!(value["etag"].is_string(), "{value}");
        assert_eq!(value["metadata"]["batch"], "7");
    }

    // The worker reads exactly these versions.
    let mut reader = fixture.answer_reader();
    let worker = fixture.start_worker("the worker", &[]);
    reader.read_until_answered(keys.len(), &[&worker]);
    ServiceFixture::stop(worker);
    assert!(reader.dead_letters.is_empty());
}

#[test]
fn bad_lines_of_a_list_are_reported_and_the_others_are_sent() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "enqueue-list", 1);
    let list = fixture.folder().join("list.jsonl");
    let good = bucket::uri(services, "a b?.jpg");
    let lines = [
        good.as_str(),
        "no uri at all",
        &format!("{{\"uri\": \"{good}\", \"id\": \"own\", \"policy\": \"none such\"}}"),
        "s3://another-bucket/a.jpg",
        "{\"uri\": 7}",
        &format!("{{\"uri\": \"{good}\", \"id\": \"own\"}}"),
    ];
    std::fs::write(&list, lines.join("\n")).unwrap();
    let enqueue = || {
        let mut command = fixture.command(&["enqueue"]);
        command.arg(&list);
        command
    };

    let dry = enqueue().arg("--dry-run").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&dry.stdout).lines().count(), 2);
    assert_eq!(fixture.input_len(), 0, "a dry run sends nothing");

    let output = enqueue().args(["--key", "uri"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = stderr(&output);
    for (line, code) in [
        (2, "uri.invalid"),
        (3, "policy.unknown"),
        (4, "uri.forbidden_bucket"),
        (5, "reference.invalid_field"),
    ] {
        let is_report =
            |text: &str| text.starts_with(&format!("line {line}: ")) && text.contains(code);
        assert!(errors.lines().any(is_report), "line {line} {code}:\n{errors}");
    }
    let records = fixture.input_records();
    let ids: Vec<_> = records.iter().map(|(_, value)| value["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [good.as_str(), "own"]);
    assert!(records.iter().all(|(key, _)| key == good.as_bytes()));

    let output = enqueue().arg("--unchecked").output().unwrap();
    assert!(stderr(&output).contains("5 sent, 0 skipped, 1 refused"), "{}", stderr(&output));
}

#[test]
fn a_killed_command_continues_where_it_stopped() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "enqueue-kill", 3);
    let list = fixture.folder().join("list.txt");
    let uris = (0..LISTED).fold(String::new(), |mut uris, number| {
        writeln!(uris, "{}", bucket::uri(services, &format!("{number}.jpg"))).unwrap();
        uris
    });
    std::fs::write(&list, uris).unwrap();
    let state = fixture.folder().join("state.json");
    let enqueue = || {
        let mut command = fixture.command(&["enqueue"]);
        command.arg(&list).arg("--state").arg(&state);
        command
    };

    // The rate leaves time to kill it in the middle, even on a busy machine.
    let first = Process::spawn("the killed enqueue", enqueue().args(["--rate", "2000/s"]));
    let has_started = || {
        first.assert_running();
        fixture.input_len() >= LISTED / 8
    };
    assert!(wait::until(has_started, WAIT_MAX), "too few references were sent");
    first.kill();
    let before = fixture.input_len();
    assert!(before < LISTED, "it was killed after the last reference");

    let output = enqueue().output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let mut times = BTreeMap::<_, usize>::new();
    for (key, _) in fixture.input_records() {
        *times.entry(key).or_default() += 1;
    }
    assert_eq!(times.len(), LISTED, "references in the topic");
    let twice = times.values().sum::<usize>() - LISTED;
    assert!(twice <= TWICE_MAX, "{twice} were sent twice");
    announce(&format!("enqueue: killed after {before} of {LISTED}, 0 lost, {twice} twice"));

    let output = enqueue().output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fixture.input_len(), LISTED + twice, "a finished command has nothing left to send");
    let output = enqueue().args(["--policy", "other"]).output().unwrap();
    assert!(stderr(&output).contains("another command"), "{}", stderr(&output));
}
