//! Every reader of untrusted data, with a hundred thousand generated inputs each. No input panics,
//! hangs or allocates more memory than its limit, and accepted input satisfies the reader's
//! contract.
//!
//! ```text
//!  files, grammars ── mutate ──► input N of a seed ── measured ──► checks/…: contract of the reader
//! ```
//!
//! The seed, the target's name and the input's number determine each input, so that a failure can
//! be repeated alone. `DOGIQA_HOSTILE_SEED`, `DOGIQA_HOSTILE_INPUTS` and `DOGIQA_HOSTILE_INDEX`
//! change them. Each failure that was found has its own test, in [`regressions`] or next to the
//! code. `fuzz/` uses the same checks.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "checks/config.rs"]
mod config;
#[path = "checks/dead_letter.rs"]
mod dead_letter;
#[path = "checks/decode.rs"]
mod decode;
#[path = "checks/message.rs"]
mod message;
#[path = "checks/metric.rs"]
mod metric;
#[path = "checks/notification.rs"]
mod notification;
#[path = "checks/reference.rs"]
mod reference;
#[path = "checks/rle.rs"]
mod rle;
#[path = "checks/uri.rs"]
mod uri;

mod anatomy;
mod bombs;
mod campaign;
mod configurations;
#[cfg(all(feature = "heic", feature = "avif", feature = "jxl"))]
mod container_bombs;
mod dead_letters;
mod images;
mod json;
mod labels;
mod masks;
mod metadata;
mod metrics;
mod mutate;
mod notifications;
mod polyglots;
mod references;
mod regressions;
mod text;
mod uris;
