//! Runs the parsed command and maps its result to an exit code.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::cli::command_line::{Cli, Command};
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::{
    ask, calibrate, check, config, dead_letters, demo, enqueue, evaluate, models, monitor, run,
    schema, score, segment, serve, watch,
};
use crate::cli::terminal::{is_broken_pipe, print_status, with_causes};
use crate::config::load;
use crate::telemetry::Otlp;
use crate::telemetry::logging::{self, LogSettings};

/// Runs the command, prints an error to standard error and returns the exit code.
pub fn main(cli: Cli) -> ExitCode {
    match dispatch(cli) {
        Ok(CommandOutcome::Success) => ExitCode::SUCCESS,
        Ok(CommandOutcome::Negative) => ExitCode::FAILURE,
        // The reader closed the pipe, as `| head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_status(&format!("error: {}", with_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<CommandOutcome> {
    // These do not depend on the configuration, so an invalid one must not prevent them.
    if let Command::Schema(args) = &cli.command {
        return schema::run(args);
    }
    if let Command::Calibrate(args) = &cli.command {
        return calibrate::run(args);
    }
    let loaded = load(cli.config.as_deref(), &cli.set)?;
    if let Command::Config(args) = &cli.command {
        return config::run(args, &loaded);
    }
    let settings = loaded.settings;
    let mut log = settings.telemetry.log.clone();
    let is_worker = matches!(cli.command, Command::Run(_) | Command::Serve(_));
    if !is_worker && log.filter == LogSettings::default().filter {
        // The result of a command is on standard output; a log would only repeat it.
        "warn".clone_into(&mut log.filter);
    }
    let runtime = Runtime::new().context("starting the runtime")?;
    let otlp =
        if is_worker { Otlp::start(&settings.telemetry.otlp, runtime.handle())? } else { None };
    logging::install(&log, io::stderr().is_terminal(), otlp.as_ref())
        .context("telemetry.log.filter")?;
    let exporter = otlp.as_ref();
    let outcome = runtime.block_on(async move {
        match cli.command {
            Command::Run(args) => Box::pin(run::run(args, settings, exporter)).await,
            Command::Serve(args) => serve::run(args, settings, exporter).await,
            Command::Enqueue(args) => enqueue::run(args, settings).await,
            // Its future holds the settings more than once.
            Command::Score(args) => Box::pin(score::run(args, settings)).await,
            Command::Evaluate(args) => Box::pin(evaluate::run(args, settings)).await,
            Command::Segment(args) => segment::run(args, settings).await,
            Command::Ask(args) => ask::run(args, settings).await,
            Command::Watch(args) => watch::run(args, settings).await,
            Command::Monitor(args) => monitor::run(args, settings).await,
            Command::DeadLetters(args) => dead_letters::run(args, settings).await,
            Command::Models(args) => models::run(args).await,
            Command::Demo(args) => demo::run(args, settings).await,
            Command::Check(args) => check::run(args, settings).await,
            Command::Schema(_) | Command::Config(_) | Command::Calibrate(_) => {
                unreachable!("answered above")
            }
        }
    });
    if let Some(otlp) = otlp {
        otlp.shutdown();
    }
    // A blocking task, such as a decoder or a Kafka client, must not delay the exit.
    runtime.shutdown_background();
    outcome
}
