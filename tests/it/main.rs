//! One offline integration binary: no network but loopback, no service to start.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../support/web_server.rs"]
mod web_server;

mod event_quality;
mod event_reference;
mod goldens_agreement;
mod goldens_rle;
mod imaging_decode;
mod imaging_limits;
mod schema;
mod storage_buckets;
mod storage_files;
mod storage_web;
