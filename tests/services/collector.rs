//! Traces and metrics of a worker, as a real OpenTelemetry Collector understands them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Started, is_available, services};
use crate::wait;
use crate::web_server::{Answer, WebServer};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PRODUCER: &str = "b7ad6b7169203331";
const REFERENCES: usize = 5;
const STAGES: [&str; 6] = ["decode", "fetch", "measure", "publish", "score", "segment"];

#[test]
fn a_collector_reads_one_trace_from_the_producer_through_every_stage_and_the_metrics() {
    let Some(services) = services().filter(|_| is_available("collector.sh")) else { return };
    let receiver =
        WebServer::start(|_, _| Answer::status(200, "Content-Type: application/json\r\n", "{}"));
    let collector = Started::by("collector.sh", &[&receiver.url("")]);
    let fixture = ServiceFixture::new(services, "collector", 1);
    let parent = format!("00-{TRACE}-{PRODUCER}-01");
    fixture.publish(fixture.references(0..REFERENCES).map(|record| PublishedRecord {
        headers: vec![("traceparent".to_owned(), Some(parent.clone().into_bytes()))],
        ..record
    }));
    let settings = [
        format!("telemetry.otlp.endpoint={}", collector.value("COLLECTOR").unwrap()),
        "telemetry.otlp.metrics_interval=1s".to_owned(),
    ];
    let worker = fixture.start_worker("the worker", &settings);
    let mut reader = fixture.answer_reader();
    reader.read_until_answered(REFERENCES, &[&worker]);
    assert_eq!(reader.event_count(), REFERENCES);
    ServiceFixture::stop(worker);

    let traces = || received(&receiver, "/v1/traces");
    let spans = || of_each(&traces(), &["resourceSpans", "scopeSpans", "spans"]);
    let expected = REFERENCES * (1 + STAGES.len());
    let are_there = wait::until(|| spans().len() >= expected, WAIT_MAX);
    let spans = spans();
    assert!(are_there && spans.len() == expected, "{spans:#?}");
    assert!(spans.iter().all(|span| span["traceId"] == TRACE), "one trace: {spans:#?}");
    let answers: Vec<&Value> =
        spans.iter().filter(|span| span["name"] == "answer reference").collect();
    assert_eq!(answers.len(), REFERENCES);
    for answer in answers {
        assert_eq!(answer["parentSpanId"], PRODUCER);
        assert_eq!(answer["kind"], 5, "a consumer: {answer}");
        let stages = spans.iter().filter(|span| span["parentSpanId"] == answer["spanId"]);
        let names: BTreeSet<&str> = stages.map(|stage| stage["name"].as_str().unwrap()).collect();
        assert_eq!(names, BTreeSet::from(STAGES));
    }
    for resource in of_each(&traces(), &["resourceSpans"]) {
        let attributes = resource["resource"]["attributes"].as_array().unwrap();
        let name = attributes.iter().find(|attribute| attribute["key"] == "service.name").unwrap();
        assert_eq!(name["value"]["stringValue"], "dogiqa");
    }

    let last = || {
        let exports = received(&receiver, "/v1/metrics");
        let metrics = of_each(&exports, &["resourceMetrics", "scopeMetrics", "metrics"]);
        let named = |metric: &&Value| metric["name"] == "dogiqa_events_published_total";
        metrics.iter().rfind(named).cloned()
    };
    let is_counted = |metric: Value| {
        // A 64-bit number is a text in the JSON of OTLP.
        metric["sum"]["dataPoints"][0]["asInt"] == *REFERENCES.to_string()
    };
    let is_counted = wait::until(|| last().is_some_and(is_counted), WAIT_MAX);
    assert!(is_counted, "{:#?}", last());
}

/// Returns the documents that the collector sent below this path.
fn received(receiver: &WebServer, path: &str) -> Vec<Value> {
    let requests = receiver.requests().into_iter().filter(|request| request.target == path);
    requests
        .map(|mut request| {
            // The server has not read the last byte yet.
            request.body.push(b'}');
            serde_json::from_slice(&request.body).unwrap()
        })
        .collect()
}

/// Returns the elements of nested lists, which are named from the outside in.
fn of_each(documents: &[Value], lists: &[&str]) -> Vec<Value> {
    let Some((first, rest)) = lists.split_first() else { return documents.to_vec() };
    let inner: Vec<Value> = documents
        .iter()
        .flat_map(|document| document[first].as_array().cloned().unwrap_or_default())
        .collect();
    of_each(&inner, rest)
}
