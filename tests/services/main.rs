//! The promises of ARCHITECTURE.md, proven on a real Apache Kafka and a real S3 server.
//!
//! The scripts beside this file fetch both parts and start them; the worker under test is the real
//! binary in processes of its own; what it did is judged by reading the topics with another client.
//! A machine without Java, Maven or Go skips these tests and says so; `DOGIQA_SERVICES=required`
//! makes that a failure.
#![expect(clippy::unwrap_used, reason = "what the tests set up must succeed, or the test fails")]

mod bad_input;
mod bucket;
mod delivery;
mod dog_iqa;
mod exactly_once;
mod http;
mod images;
mod memory;
mod oracle;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/qwen2.rs"]
mod qwen2;
#[path = "../support/random_tensor.rs"]
mod random_tensor;
mod rebalance;
mod scene;
mod services;
#[path = "../support/small_networks.rs"]
mod small_networks;
#[path = "../support/wire.rs"]
mod wire;
