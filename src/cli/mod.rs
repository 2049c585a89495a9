//! The command line: one file per subcommand. Results go to standard output, all else to standard
//! error; `anyhow` and hints live here and nowhere below.
//!
//! Exit codes: 0 done, 1 failed, 2 usage.

mod ask;
mod build;
mod check;
mod codes;
mod config;
mod dead_letters;
mod demo;
mod device;
mod enqueue;
mod gallery;
mod inputs;
mod letter_output;
mod memory;
mod models;
mod output;
mod run;
mod samples;
mod schema;
mod score;
mod score_output;
mod segment;
mod watch;
mod when;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::config::{Loaded, load};
use crate::telemetry::logging;

/// How good is an image, as a whole and object by object?
#[derive(Debug, Parser)]
#[command(name = "dogiqa", version, about, max_term_width = 100)]
pub struct Cli {
    /// Configuration file; else the one that `DOGIQA_CONFIG` names, else defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as in the file: `--set kafka.group_id=photos`. May be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work: references in, quality events out, until SIGTERM
    Run(run::Args),
    /// Send references to the worker: a folder, a list, a prefix of a bucket
    Enqueue(enqueue::Args),
    /// Score files, folders, globs or URIs without Kafka
    Score(score::Args),
    /// Look at what SAM 2 sees: masks as JSON, and outlined pictures
    Segment(segment::Args),
    /// Ask mPLUG-Owl3 about an image, in words
    Ask(ask::Args),
    /// See the whole road in one process: embedded broker, sample photos, report
    Demo(demo::Args),
    /// Watch quality events as they come, with running statistics
    Watch(watch::Args),
    /// Look at dead letters, and send them again
    DeadLetters(dead_letters::Args),
    /// Fetch, list, verify and shrink models
    Models(models::Args),
    /// Print the wire contract: JSON Schemas, AsyncAPI document, examples
    Schema(schema::Args),
    /// Show the effective configuration, secrets hidden
    Config(config::Args),
    /// Check configuration, brokers, topics, stores and engine before going live
    Check(check::Args),
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Everything ran, and the answer is no: a bad image, a score below the bar, a failed check.
    Negative,
}

/// Runs the command; tells failures on standard error.
pub fn main(cli: Cli) -> ExitCode {
    match dispatch(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Negative) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Outcome> {
    let Loaded { settings, .. } = match &cli.command {
        // What the contract is does not depend on a configuration.
        Command::Schema(args) => return schema::run(args),
        Command::Config(args) => {
            return config::run(args, &load(cli.config.as_deref(), &cli.set)?);
        }
        _ => load(cli.config.as_deref(), &cli.set)?,
    };
    let mut log = settings.telemetry.log.clone();
    if !matches!(cli.command, Command::Run(_))
        && log.filter == logging::LogSettings::default().filter
    {
        // A worker tells its life; a command tells its result.
        "warn".clone_into(&mut log.filter);
    }
    logging::install(&log, io::stderr().is_terminal()).context("telemetry.log.filter")?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let outcome = runtime.block_on(async move {
        match cli.command {
            Command::Run(args) => run::run(args, settings).await,
            Command::Enqueue(args) => enqueue::run(args, settings).await,
            Command::Score(args) => score::run(args, settings).await,
            Command::Segment(args) => segment::run(args, settings).await,
            Command::Ask(args) => ask::run(args, settings).await,
            Command::Watch(args) => watch::run(args, settings).await,
            Command::DeadLetters(args) => dead_letters::run(args, settings).await,
            Command::Models(args) => models::run(args).await,
            Command::Demo(args) => demo::run(args, settings).await,
            Command::Check(args) => check::run(args, settings).await,
            Command::Schema(_) | Command::Config(_) => unreachable!("answered above"),
        }
    });
    // Whoever was asked to end does not wait for a decoder or a broker that nobody listens to any more.
    runtime.shutdown_background();
    outcome
}

/// A reader that has seen enough (`| head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
