//! `dogiqa watch` beside a real worker: what comes is shown as it comes, and summed up at the end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use crate::bucket;
use crate::process::Process;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::services;

/// A watch that has begun, and what it says besides its results.
struct Watch {
    child: Child,
    errors: BufReader<ChildStderr>,
}

impl Watch {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.starts_with("watching "), "{line}");
        Self { child, errors }
    }

    /// Its results and its last words, when it has ended well.
    fn end(mut self) -> (String, String) {
        let output = self.child.wait_with_output().unwrap();
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        (String::from_utf8(output.stdout).unwrap(), errors)
    }
}

#[test]
fn events_and_dead_letters_are_shown_as_they_come_and_summed_up() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "watch", 3);
    let worker = fixture.start_worker("the worker", &[]);
    let mut reader = fixture.answer_reader();
    fixture.publish_references(5);
    reader.read_until_answered(5, &[&worker]);

    let arguments = ["watch", "--dead-letters", "--format", "jsonl", "--count", "12"];
    let watch = Watch::start(&mut fixture.command(&arguments));
    let reference = |id: &str, key: &str| PublishedRecord {
        payload: Some(json!({"id": id, "uri": bucket::uri(services, key)}).to_string().into()),
        ..PublishedRecord::default()
    };
    let samples = bucket::fifty_images(services);
    let good = (0..10).map(|number| reference(&format!("new-{number}"), &samples[number].key));
    fixture.publish(good.chain(["gone-0", "gone-1"].map(|id| reference(id, "watch/absent.jpg"))));
    let (lines, summary) = watch.end();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = |line: &Value| line["reference"]["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<_> = lines.iter().map(id).collect();
    ids.sort();
    let expected = (0..2).map(|number| format!("gone-{number}"));
    let expected = expected.chain((0..10).map(|number| format!("new-{number}")));
    assert_eq!(ids, expected.collect::<Vec<_>>(), "what came before is not shown");
    assert!(summary.contains("events: 10 in "), "{summary}");
    assert!(summary.contains("dead letters: 2 (fetch.not_found 2)"), "{summary}");
    let scores: Vec<f64> = lines.iter().filter_map(|line| line["score"].as_f64()).collect();
    let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = scores.iter().copied().fold(0.0, f64::max);
    let mean = scores.iter().sum::<f64>() / 10.0;
    let expected = format!("score: mean {mean:.2}, median ");
    assert!(summary.contains(&expected), "{expected}: {summary}");
    let expected = format!("lowest {lowest:.2}, highest {highest:.2}");
    assert!(summary.contains(&expected), "{expected}: {summary}");

    filtered(&fixture, &scores);
    ServiceFixture::stop(worker);
}

/// From the beginning, those below a bar, under the head of the table.
fn filtered(fixture: &ServiceFixture, scores: &[f64]) {
    let bar = scores.iter().copied().fold(0.0, f64::max);
    let below = scores.iter().filter(|score| **score < bar).count();
    assert!(below > 0, "the images have one score");
    let (bar, count) = (bar.to_string(), below.to_string());
    let arguments = ["watch", "--from-beginning", "--below", &bar, "--count", &count];
    let (table, summary) = Watch::start(&mut fixture.command(&arguments)).end();
    assert_eq!(table.lines().count(), 1 + below, "{table}");
    let highest = summary.lines().find_map(|line| line.split_once("highest ")).unwrap().1;
    assert!(highest.parse::<f64>().unwrap() <= bar.parse::<f64>().unwrap() + 0.005, "{summary}");
}

#[test]
fn a_signal_and_the_end_of_its_time_end_a_watch_well() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "watch-ends", 1);
    let watch = Process::spawn("the watch", &mut fixture.command(&["watch"]));
    watch.wait_for_line("watching watch-ends.events from now on", WAIT_MAX);
    watch.terminate();
    watch.wait_for_line("events: 0 in ", WAIT_MAX);
    assert_eq!(watch.wait(WAIT_MAX).code(), Some(0));

    fixture.publish_to(
        &fixture.events(),
        [PublishedRecord { payload: Some(b"{}".to_vec()), ..PublishedRecord::default() }]
            .into_iter(),
    );
    let arguments = ["watch", "--since", "1h", "--for", "5s"];
    let (_, summary) = Watch::start(&mut fixture.command(&arguments)).end();
    assert!(summary.contains("events: 0 in "), "{summary}");
    assert!(summary.contains("records that are no answers of this service: 1"), "{summary}");
}
