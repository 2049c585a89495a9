//! Output topics whose settings refuse some records: only what is too large by itself loses a part,
//! compacted topics accept every dead letter, and `check` says what it finds.

use std::time::Instant;

use serde_json::json;

use crate::answer_comparison::{AnswerComparison, Expected};
use crate::fault_run::FaultRow;
use crate::http;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Started, script_command, services};
use crate::topic_admin::TopicAdmin;
use crate::topic_reader::Answer;
use crate::wait;

/// Values of `kafka.delivery`.
const MODES: [&str; 2] = ["at-least-once", "exactly-once"];
/// Records that fit into a batch, but not into the topic's limit together.
const SMALL: usize = 1_000;
/// Limit of the dead-letter topic for one batch, in bytes.
const LIMIT_BYTES: usize = 20_000;

/// A record that becomes a dead letter at once. Its value does not compress.
fn refused(key: Option<String>, bytes: usize) -> PublishedRecord {
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
    let reference = json!({"uri": "ftp://example.com/a.jpg", "metadata": {"noise": noise}});
    PublishedRecord {
        key: key.map(String::into_bytes),
        payload: Some(reference.to_string().into_bytes()),
        headers: vec![("x-note".to_owned(), Some(b"kept".to_vec()))],
    }
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(answer.key.as_deref().unwrap()).unwrap()
}

#[test]
fn a_large_record_does_not_take_parts_of_its_neighbours() {
    let Some(services) = services() else { return };
    for mode in MODES {
        let fixture = ServiceFixture::new(services, &format!("neighbours-{mode}"), 1);
        let limit = LIMIT_BYTES.to_string();
        TopicAdmin::new(fixture.client())
            .configure(&fixture.dead_letters(), &[("max.message.bytes", &limit)]);
        let small = (0..SMALL).map(|number| refused(Some(format!("small-{number}")), 300));
        fixture.publish(small);
        fixture.publish([refused(Some("large".to_owned()), 2 * LIMIT_BYTES)].into_iter());
        let worker = fixture.start_worker("the worker", &[format!("kafka.delivery={mode}")]);
        let (mut reader, started) = (fixture.answer_reader(), Instant::now());
        reader.read_until(&[&worker], |reader| reader.dead_letters.len() > SMALL);
        ServiceFixture::stop(worker);
        let seconds = started.elapsed().as_secs_f64();
        let keys = (0..SMALL).map(|number| format!("small-{number}")).chain(["large".to_owned()]);
        let dead_letters = keys.map(|key| (key, "uri.unsupported_scheme")).collect();
        let expected = Expected { references: 0, dead_letters };
        let comparison = AnswerComparison::of(&fixture, &mut reader, &expected);
        let title = "the limit of the dead-letter topic is below a batch";
        let references = expected.answers();
        FaultRow { title, delivery: mode, references, faults: 1, comparison, seconds }.record();
        assert_eq!(comparison, AnswerComparison::default(), "{mode}");
        let (large, small): (Vec<_>, Vec<_>) =
            reader.dead_letters.iter().partition(|letter| text(letter) == "large");
        assert_eq!((large.len(), small.len()), (1, SMALL), "{mode}");
        let left_out = large[0].header("dogiqa.error.left_out");
        assert_eq!((left_out, large[0].payload.len()), (Some("value"), 0), "{mode}");
        for letter in small {
            assert_eq!(letter.header("dogiqa.error.left_out"), None, "{mode} {}", text(letter));
            assert_eq!(letter.header("x-note"), Some("kept"));
            assert!(letter.payload.len() > 300, "{mode} {}", text(letter));
        }
    }
}

#[test]
fn a_compacted_dead_letter_topic_accepts_references_without_a_key_and_replays_them_as_they_were() {
    let Some(services) = services() else { return };
    for mode in MODES {
        let fixture = ServiceFixture::new(services, &format!("compacted-{mode}"), 1);
        TopicAdmin::new(fixture.client())
            .configure(&fixture.dead_letters(), &[("cleanup.policy", "compact")]);
        let without_key = refused(None, 10);
        fixture.publish([without_key.clone(), refused(Some("key".to_owned()), 10)].into_iter());
        let worker = fixture.start_worker("the worker", &[format!("kafka.delivery={mode}")]);
        let mut reader = fixture.answer_reader();
        reader.read_until(&[&worker], |reader| reader.dead_letters.len() >= 2);
        ServiceFixture::stop(worker);
        let letters = &reader.dead_letters;
        let generated = format!("{}-0-0", fixture.input());
        let of = |key: &str| letters.iter().find(|letter| text(letter) == key);
        assert_eq!(of(&generated).map(|it| &it.payload), without_key.payload.as_ref(), "{mode}");
        assert!(of("key").is_some(), "{mode}");

        let replay = ["dead-letters", "replay", "--code", "uri.unsupported_scheme"];
        let output = fixture.command(&replay).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut input = fixture.input_reader();
        input.read_until(&[], |input| input.dead_letters.len() >= 4);
        let replayed = &input.dead_letters[2..];
        assert_eq!(replayed.len(), 2, "{mode}");
        assert!(replayed.iter().any(|record| record.key.is_none()), "{mode}: {replayed:?}");
    }
}

#[test]
fn a_deleted_output_topic_ends_the_worker_with_its_name() {
    let Some(services) = services() else { return };
    for mode in MODES {
        let fixture = ServiceFixture::new(services, &format!("deleted-{mode}"), 1);
        let worker = fixture.start_worker("the worker", &[format!("kafka.delivery={mode}")]);
        ServiceFixture::wait_until_ready(&worker);
        let topic = fixture.dead_letters();
        TopicAdmin::new(fixture.client()).delete(&topic);
        fixture.publish([refused(None, 10)].into_iter());
        worker.wait_for_line(&format!("topic {topic} no longer exists"), WAIT_MAX);
        assert_eq!(worker.wait(WAIT_MAX).code(), Some(1), "{mode}");
    }
}

#[test]
fn a_worker_without_brokers_and_work_stops_within_two_seconds() {
    let Some(services) = services() else { return };
    let broker = Started::by("kafka.sh", &[]);
    let [bootstrap, folder] =
        ["KAFKA_BOOTSTRAP", "KAFKA_DIR"].map(|name| broker.value(name).unwrap());
    let workers = MODES.map(|mode| {
        let fixture = ServiceFixture::on_broker(bootstrap, services, &format!("away-{mode}"), 1);
        let worker = fixture.start_worker("the worker", &[format!("kafka.delivery={mode}")]);
        fixture.publish([refused(None, 10)].into_iter());
        fixture.answer_reader().read_until(&[&worker], |reader| !reader.dead_letters.is_empty());
        // The worker knows that its position is committed.
        let address = http::served_address(&worker);
        let is_committed =
            || http::get(&address, "/metrics").1.contains("dogiqa_offsets_committed_total 1");
        assert!(wait::until(is_committed, WAIT_MAX), "{mode}");
        (mode, worker)
    });
    let killed = script_command("kafka.sh", "kill").args([folder, "1"]).status();
    assert!(killed.unwrap().success());
    for (mode, worker) in workers {
        let terminated = Instant::now();
        worker.terminate();
        assert!(worker.wait(WAIT_MAX).success(), "{mode}");
        let seconds = terminated.elapsed().as_secs_f64();
        println!("{mode}: stopped in {seconds:.1} s");
        // Twice the limit, for a busy machine.
        assert!(seconds < 4.0, "{mode}: {seconds} s");
    }
}

#[test]
fn check_reports_what_topics_refuse_and_lose() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "check-limits", 1);
    TopicAdmin::new(fixture.client()).configure(&fixture.input(), &[("cleanup.policy", "compact")]);
    TopicAdmin::new(fixture.client())
        .configure(&fixture.dead_letters(), &[("max.message.bytes", "20000")]);
    let output = fixture.command(&["check"]).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    for part in
        ["removed unanswered", "large references lose their value", "a backlog of 0 records"]
    {
        assert!(report.contains(part), "{part}:\n{report}");
    }
}
