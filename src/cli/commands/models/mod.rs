//! `dogiqa models`: downloads, lists, verifies and quantises models.
//!
//! Follows the rule of `commands` for imports.

mod command;
mod list;
mod progress_lines;
mod pull;
mod quantize;
mod verify;

pub(crate) use command::{Args, run};
