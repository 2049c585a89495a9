//! The command line of the `dogiqa` binary.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 success,
//! 1 failure or a negative result, 2 wrong usage. `anyhow` and hints for the user exist only here.
//!
//! | file | content |
//! |---|---|
//! | `command_line` | the commands and the global options, as clap parses them |
//! | `dispatch` | loads the configuration, installs the log, runs the command, maps the exit code |
//! | `commands` | one file or folder per subcommand |
//! | the other files | code that several subcommands use |
//!
//! This module may import every other module of the crate, and no module imports it.

mod code_counts;
mod command_line;
mod command_outcome;
mod commands;
mod dead_letter_format;
mod dispatch;
mod document;
mod image_arguments;
mod journey_setup;
mod memory_plan;
mod report_folder;
mod saved_events;
mod signals;
mod single_model;
mod terminal;
mod time_and_rate;

pub use command_line::Cli;
pub use dispatch::main;
