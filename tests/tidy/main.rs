//! House rules that the compiler cannot see, as tests: run by plain `cargo test`.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]
#![expect(clippy::string_slice, reason = "the offsets come from a search in the same text")]

mod files;
mod graph;
mod language;
mod layers;
mod source;
mod tables;
