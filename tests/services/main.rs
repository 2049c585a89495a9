//! The promises of ARCHITECTURE.md, proven on a real Apache Kafka and a real S3 server.
//!
//! The scripts beside this file fetch both parts and start them; the worker under test is the real
//! binary in processes of its own; what it did is judged by reading the topics with another client.
//! A machine without Java, Maven or Go skips these tests and says so; `DOGIQA_SERVICES=required`
//! makes that a failure.
#![expect(clippy::unwrap_used, reason = "what the tests set up must succeed, or the test fails")]

mod bad_input;
mod bucket;
mod certificates;
mod check;
mod cluster;
mod dead_letters;
mod delivery;
mod dog_iqa;
mod enqueue;
mod extent;
mod faults_brokers;
mod faults_inside;
mod faults_stores;
mod faults_workers;
mod http;
mod images;
mod judgement;
mod memory;
#[expect(dead_code, reason = "the offline tests ask more of it")]
#[path = "../support/noop.rs"]
mod noop;
mod oracle;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/qwen2.rs"]
mod qwen2;
#[path = "../support/random_tensor.rs"]
mod random_tensor;
mod scene;
mod secrets;
mod security;
mod services;
#[path = "../support/small_networks.rs"]
mod small_networks;
mod trial;
mod watch;
#[expect(dead_code, reason = "the offline tests ask more of it")]
#[path = "../support/web_server.rs"]
mod web_server;
#[path = "../support/wire.rs"]
mod wire;
