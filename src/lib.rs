//! Streaming image quality assessment: a score for the image and for every object in it.
//!
//! ```text
//!  image-references ─► fetch ─► decode ─► segment ─► crop ─► score ─► aggregate ─► image-quality
//!      (Kafka)        storage   imaging   ╰──────── engine ───────╯    method      └► dead letters
//! ```
//!
//! `ARCHITECTURE.md` lists the contents and the allowed imports of each module; `tests/tidy` checks
//! them.

mod backoff;
pub mod cache;
mod changed_settings;
pub mod checkpoints;
pub mod cli;
pub mod config;
pub mod engine;
mod etag;
pub mod evaluation;
pub mod event;
mod http_server;
pub mod imaging;
mod mat_file;
pub mod method;
pub mod metrics;
pub mod models;
pub mod monitor;
mod outbound_http;
pub mod pipeline;
mod priority;
pub mod reasons;
mod redact;
pub mod report;
mod secret;
pub mod serve;
pub mod storage;
pub mod stream;
pub mod telemetry;
