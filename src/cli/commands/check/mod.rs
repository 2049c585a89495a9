//! `dogiqa check`: checks everything that the worker needs before it goes live.
//!
//! Follows the rule of `commands` for imports.

mod command;
mod topic_problems;

pub(crate) use command::{Args, run};
