//! The delivery guarantees of the README and ARCHITECTURE.md, tested on a real Apache Kafka and a
//! real S3 server.
//!
//! The scripts in this folder download both services and start them. The worker under test is the
//! real binary in its own process. A separate Kafka client reads the topics and checks the answers.
//! A machine without Java, Maven, Go, Python, curl or Chromium skips its tests and prints the
//! reason; `DOGIQA_SERVICES=required` turns that into a failure.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

#[expect(dead_code, reason = "the offline tests use the rest")]
#[path = "../support/hub.rs"]
mod hub;
#[expect(dead_code, reason = "the offline tests use the rest")]
#[path = "../support/noop.rs"]
mod noop;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/qwen2.rs"]
mod qwen2;
#[path = "../support/random_tensor.rs"]
mod random_tensor;
#[path = "../support/raw_produce.rs"]
mod raw_produce;
#[expect(dead_code, reason = "the offline tests use the rest")]
#[path = "../support/scoring_server.rs"]
mod scoring_server;
#[path = "../support/small_networks.rs"]
mod small_networks;
#[expect(dead_code, reason = "the offline tests use the rest")]
#[path = "../support/wait.rs"]
mod wait;
#[expect(dead_code, reason = "the offline tests use the rest")]
#[path = "../support/web_server.rs"]
mod web_server;

mod answer_comparison;
mod bad_input;
mod browser;
mod bucket;
mod certificates;
mod check;
mod cluster;
mod collector;
mod dead_letters;
mod delivery;
mod dog_iqa;
mod enqueue;
mod fault_run;
mod faults_brokers;
mod faults_consumer;
mod faults_scorer;
mod faults_stages;
mod faults_stores;
mod faults_workers;
mod http;
mod hub_peer;
mod images;
mod memory;
mod monitor;
mod notifications;
mod output_limits;
mod prometheus;
mod recipes;
mod rotation;
mod run_size;
mod secrets;
mod security;
mod service_fixture;
mod services;
mod topic_admin;
mod topic_reader;
mod watch;
