//! `dogiqa dead-letters`: lists dead letters and sends their references again.
//!
//! Follows the rule of `commands` for imports.

mod command;
mod filter;
mod list;
mod replay;

pub(crate) use command::{Args, run};
