//! `dogiqa watch`: prints quality events as they arrive.
//!
//! Follows the rule of `commands` for imports.

mod command;
mod filter;
mod statistics;

pub(crate) use command::{Args, run};
