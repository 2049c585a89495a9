//! `dogiqa demo`: the whole pipeline in one process.
//!
//! Follows the rule of `commands` for imports.

mod command;
mod sample_photos;

pub(crate) use command::{Args, run};
