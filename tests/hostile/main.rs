//! What strangers may send, a hundred thousand inputs for each target: nothing panics, nothing hangs, nothing takes
//! more memory than its limits explain, and what is let through keeps its promises.
//!
//! ```text
//!  files, grammars ── mutate ──► input number N of a seed ── measured ──► checks/…: what must hold for any input
//! ```
//!
//! Every input follows from the seed, the target's name and its number, so that a failure names three things and can
//! be repeated alone. `DOGIQA_HOSTILE_SEED`, `DOGIQA_HOSTILE_INPUTS` and `DOGIQA_HOSTILE_INDEX` change them. What was
//! found is a named test, in [`found`] or beside the code. The checks are those of `fuzz/`, too.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "checks/config.rs"]
mod config;
#[path = "checks/dead_letter.rs"]
mod dead_letter;
#[path = "checks/decode.rs"]
mod decode;
#[path = "checks/message.rs"]
mod message;
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
mod dead_letters;
mod found;
mod images;
mod json;
mod masks;
mod metadata;
mod mutate;
mod polyglots;
mod references;
mod text;
mod uris;
