//! The `dogiqa` command: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use dog_iqa::cli::{self, Cli};

fn main() -> ExitCode {
    cli::main(Cli::parse())
}
