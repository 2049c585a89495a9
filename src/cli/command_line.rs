//! The commands and the global options of `dogiqa`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::commands::{
    ask, calibrate, check, config, dead_letters, demo, enqueue, evaluate, models, monitor, run,
    schema, score, segment, serve, watch,
};

/// Separates the options of all commands from those of the command in the help texts.
const GLOBAL_OPTIONS: &str = "Global options";

const EXAMPLES: &str = "Examples:\n  dogiqa demo\n  dogiqa score photos/ 'more/*.jpg'\n  \
    dogiqa run --config dogiqa.toml --set kafka.bootstrap_servers=broker:9092";

/// Streaming image quality assessment over Kafka: scores an image as a whole and each object in it
#[derive(Debug, Parser)]
#[command(name = "dogiqa", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Configuration file. Default: the file named by `DOGIQA_CONFIG`, else built-in defaults
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL_OPTIONS)]
    pub(crate) config: Option<PathBuf>,
    /// Override one setting: `--set kafka.group_id=photos`. May be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = GLOBAL_OPTIONS)]
    pub(crate) set: Vec<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the worker: read references from Kafka, write quality events, until SIGTERM
    Run(run::Args),
    /// Score images over HTTP, without Kafka, until SIGTERM
    Serve(serve::Args),
    /// Send references to the worker from a folder, a list or a bucket prefix
    Enqueue(enqueue::Args),
    /// Score files, folders, globs or URIs without Kafka
    Score(score::Args),
    /// Compare scores with people's scores: SRCC, PLCC and more, on public data sets or your own
    Evaluate(evaluate::Args),
    /// Find thresholds, review bands and the curve to people's scale for your images
    Calibrate(calibrate::Args),
    /// Segment images with SAM 2: masks as JSON, optionally outlined pictures
    Segment(segment::Args),
    /// Ask mPLUG-Owl3 a question about an image
    Ask(ask::Args),
    /// Run the whole pipeline in one process: embedded broker, worker, sample photos, report
    Demo(demo::Args),
    /// Print quality events as they arrive, with running statistics
    Watch(watch::Args),
    /// Serve a live page: rate, backlog, drift of the scores, verdicts, reasons, rejected images
    Monitor(monitor::Args),
    /// List dead letters, or send their references again
    DeadLetters(dead_letters::Args),
    /// Download, list, verify and quantise models
    Models(models::Args),
    /// Print the wire contract: JSON Schemas, descriptions of topics and HTTP API, examples
    Schema(schema::Args),
    /// Print the effective configuration with secrets hidden
    Config(config::Args),
    /// Check configuration, stores, engine, memory and Kafka before going live
    Check(check::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
