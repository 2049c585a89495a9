//! The subcommands of `dogiqa`: each one has its arguments, its help text and its `run` function.
//!
//! A subcommand may import every module of the crate, and the files of `cli` next to this folder
//! except `command_line` and `dispatch`. It imports no other subcommand.

pub(crate) mod ask;
pub(crate) mod calibrate;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod enqueue;
pub(crate) mod evaluate;
pub(crate) mod models;
pub(crate) mod monitor;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod score;
pub(crate) mod segment;
pub(crate) mod serve;
pub(crate) mod watch;
