//! A real Prometheus scrapes a worker, loads the alerts and answers the queries of the dashboard.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::http;
use crate::service_fixture::{ServiceFixture, WAIT_MAX};
use crate::services::{Started, is_available, services};
use crate::wait;

const REFERENCES: usize = 30;
/// Metrics that appear after a fault. All others of the dashboard have data here.
const AFTER_FAULTS: [&str; 6] = [
    "dogiqa_commit_errors_total",
    "dogiqa_dead_letters_published_total",
    "dogiqa_fetch_retries_total",
    "dogiqa_shadow_dropped_total",
    "dogiqa_shadow_failed_total",
    "dogiqa_stage_errors_total",
];

/// Returns the data of an answer of Prometheus's API.
fn api(server: &str, path: &str) -> Value {
    let (status, body) = http::get(server, &format!("/api/v1/{path}"));
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    assert!(status == 200 && answer["status"] == "success", "{path}: {status} {body}");
    answer["data"].clone()
}

/// Returns the result of a query now.
fn query(server: &str, text: &str) -> Vec<Value> {
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let data = api(server, &format!("query?query={encoded}"));
    data["result"].as_array().unwrap().clone()
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn dashboard_queries() -> Vec<String> {
    let text = std::fs::read(deploy("grafana/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    // The test lasts seconds, so a rate over five minutes would have too few samples.
    let shorter = |text: &str| text.replace("[5m]", "[30s]").replace("[1h]", "[30s]");
    targets.map(|target| shorter(target["expr"].as_str().unwrap())).collect()
}

#[test]
fn prometheus_loads_the_alerts_and_answers_the_dashboard() {
    let Some(services) = services().filter(|_| is_available("prometheus.sh")) else { return };
    let fixture = ServiceFixture::new(services, "prometheus", 3);
    let shadow = [
        "kafka.shadow_topic=prometheus.shadow".to_owned(),
        "kafka.create_topics=true".to_owned(),
        // Room for all images, so that none is left out.
        format!("engine.shadow={{name=\"classic\",share=1.0,images={}}}", 2 * REFERENCES),
    ];
    let worker = fixture.start_worker("the worker", &shadow);
    ServiceFixture::wait_until_ready(&worker);
    let rules = deploy("prometheus/alerts.yml");
    let target = http::served_address(&worker);
    let prometheus = Started::by("prometheus.sh", &[&target, rules.to_str().unwrap()]);
    let server = prometheus.value("PROMETHEUS").unwrap();
    let mut reader = fixture.answer_reader();
    // Two scrapes with an increase between them make a rate.
    for (from, to) in [(0, REFERENCES), (REFERENCES, 2 * REFERENCES)] {
        fixture.publish(fixture.references(from..to));
        reader.read_until_answered(to, &[&worker]);
        let answered = format!("sum(dogiqa_events_published_total) == {to}");
        let is_scraped = wait::until(|| !query(server, &answered).is_empty(), WAIT_MAX);
        assert!(is_scraped, "Prometheus did not see {to} events");
    }

    for text in dashboard_queries() {
        if AFTER_FAULTS.iter().any(|name| text.contains(name)) {
            assert!(query(server, &text).is_empty(), "{text} has data without a fault");
        } else {
            let has_data = wait::until(|| !query(server, &text).is_empty(), WAIT_MAX);
            assert!(has_data, "no data for {text}");
        }
    }
    // A topic without lag: a scaler may stop the worker, and no alert fires.
    let no_lag = "sum(dogiqa_consumer_lag) == 0";
    assert!(wait::until(|| !query(server, no_lag).is_empty(), WAIT_MAX), "there is lag");
    let alerts = || api(server, "rules")["groups"][0]["rules"].as_array().unwrap().clone();
    let evaluated = || alerts().iter().all(|alert| alert["health"] != "unknown");
    assert!(wait::until(evaluated, WAIT_MAX), "{:?}", alerts());
    let text = std::fs::read_to_string(rules).unwrap();
    assert_eq!(alerts().len(), text.matches("- alert:").count());
    for alert in alerts() {
        assert!(alert["health"] == "ok" && alert["state"] == "inactive", "{alert}");
    }
    ServiceFixture::stop(worker);
}
