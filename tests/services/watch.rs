//! `dogiqa watch` next to a real worker: it prints each answer and a summary at the end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use crate::bucket;
use crate::process::Process;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::services;

/// A running `dogiqa watch`. It has printed its first line.
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

    /// Waits for a successful exit. Returns standard output and the rest of standard error.
    fn end(mut self) -> (String, String) {
        let output = self.child.wait_with_output().unwrap();
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        (String::from_utf8(output.stdout).unwrap(), errors)
    }
}

#[test]
fn events_and_dead_letters_are_printed_and_summarised() {
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
    fixture.publish(
        good.chain(["missing-0", "missing-1"].map(|id| reference(id, "watch/absent.jpg"))),
    );
    let (lines, summary) = watch.end();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = |line: &Value| line["reference"]["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<_> = lines.iter().map(id).collect();
    ids.sort();
    let expected = (0..2).map(|number| format!("missing-{number}"));
    let expected = expected.chain((0..10).map(|number| format!("new-{number}")));
    assert_eq!(ids, expected.collect::<Vec<_>>(), "earlier answers are not shown");
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

    assert_filters_by_score(&fixture, &scores);
    ServiceFixture::stop(worker);
}

/// Reads the topic from its beginning, as a table of the events below a score.
fn assert_filters_by_score(fixture: &ServiceFixture, scores: &[f64]) {
    let limit = scores.iter().copied().fold(0.0, f64::max);
    let below = scores.iter().filter(|score| **score < limit).count();
    assert!(below > 0, "all images have the same score");
    let (limit, count) = (limit.to_string(), below.to_string());
    let arguments = ["watch", "--from-beginning", "--below", &limit, "--count", &count];
    let (table, summary) = Watch::start(&mut fixture.command(&arguments)).end();
    assert_eq!(table.lines().count(), 1 + below, "{table}");
    let highest = summary.lines().find_map(|line| line.split_once("highest ")).unwrap().1;
    assert!(highest.parse::<f64>().unwrap() <= limit.parse::<f64>().unwrap() + 0.005, "{summary}");
}

#[test]
fn a_signal_and_the_end_of_its_time_end_a_watch_with_success() {
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
