//! `dogiqa score`: scores images without Kafka.
//!
//! Follows the rule of `commands` for imports.

mod command;
mod event_printer;

pub(crate) use command::{Args, run};
