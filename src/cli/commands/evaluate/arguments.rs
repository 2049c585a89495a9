//! The arguments of `dogiqa evaluate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use crate::cli::document::DocumentFormat;
use crate::evaluation::{Bootstrap, CsvColumns, JoinOptions, JoinRule, ScoreValue};
use crate::metrics::Metric;

const EXAMPLES: &str = "Data sets: koniq10k, livec, spaq, kadid10k, agiqa3k in the layout of their \
    authors; csv for a table of your own.\n\n\
    Examples:\n  dogiqa evaluate koniq10k data/koniq10k --save koniq.jsonl\n  \
    dogiqa evaluate spaq data/SPAQ --events spaq.jsonl --ablate aggregation --paper\n  \
    dogiqa evaluate csv labels.csv --scores ours.csv --scores theirs.csv --format markdown\n  \
    dogiqa evaluate livec data/ChallengeDB_release --bound 3,5,7,9\n  \
    dogiqa evaluate --engines now.jsonl shadow.jsonl\n\n\
    Exit codes: 0 the agreement was computed; 1 it was not, or an image failed; 2 wrong usage.";

#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name and folder of each data set; for `csv`, its table
    #[arg(required_unless_present = "engines", num_args = 2.., value_names = ["DATASET", "PATH"])]
    pub(crate) data_sets: Vec<String>,
    /// Evaluate the events in this file (JSON lines of `score`, `watch` or the topic) instead of
    /// scoring the images. May be repeated, to compare
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Vec<PathBuf>,
    /// Compare the events in two files with each other by the ids of the references, without labels
    #[arg(long, num_args = 2, value_names = ["FILE", "FILE"],
          conflicts_with_all = ["data_sets", "events", "scores", "metric", "ablate", "bound",
                                "save", "report"])]
    pub(crate) engines: Vec<PathBuf>,
    /// Evaluate the scores in this file (CSV: name, score). May be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) scores: Vec<PathBuf>,
    /// Evaluate hand-crafted metrics of the images instead of the engine. Lower values are better,
    /// so they are negated. Their parameters come from `dogiqa models pull`
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    pub(crate) metric: Vec<Metric>,
    /// Folder of the metrics' parameters, with a folder for each metric. Default:
    /// `pipeline.measure_parameters`, else the cache
    #[arg(long, value_name = "DIR", requires = "metric")]
    pub(crate) parameters: Option<PathBuf>,
    /// Value of the events
    #[arg(long, value_enum, default_value_t)]
    pub(crate) value: ScoreValue,
    #[command(flatten)]
    pub(crate) labels: LabelArgs,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    #[command(flatten)]
    pub(crate) bootstrap: BootstrapArgs,
    /// Also compute the scores in other ways. All but `aggregation` rate the images again; their
    /// masks are those of the first run
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) ablate: Vec<Ablate>,
    /// Print the upper bound of these numbers of levels, from the labels alone (the paper's
    /// Table 1)
    #[arg(long, value_name = "LEVELS", value_delimiter = ',',
          value_parser = clap::value_parser!(u8).range(2..=9))]
    pub(crate) bound: Vec<u8>,
    /// Print the paper's values next to ours
    #[arg(long)]
    pub(crate) paper: bool,
    /// Print the agreement for each kind of distortion
    #[arg(long)]
    pub(crate) kinds: bool,
    /// Append each event to this file while the images are scored. `--ablate` saves its events next
    /// to it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["events", "scores", "metric"])]
    pub(crate) save: Option<PathBuf>,
    /// Continue the file of `--save`; its images are not scored again
    #[arg(long, requires = "save")]
    pub(crate) resume: bool,
    /// Write a page with scatter plots, residuals and the largest errors into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = DocumentFormat::Table)]
    pub(crate) format: DocumentFormat,
}

/// The part of a score that is computed in other ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ablate {
    /// The formula of the score: rows 3 and 5 to 8 of the paper's Table 4, and the authors' program
    Aggregation,
    /// The standard: number, sentence, word (rows 1, 2 and 7 of Table 4)
    Standard,
    /// The crops: black outside the mask, or the whole bounding box (rows 4 and 7 of Table 4)
    Crop,
    /// The number of levels: 3, 5, 7, 9 (Table 5)
    Levels,
}

/// The labels and the images.
#[derive(Debug, ClapArgs)]
pub(crate) struct LabelArgs {
    /// Folder of the images, if it is not in the data set's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Column of a `csv` data set with the names of the images
    #[arg(long, value_name = "COLUMN")]
    pub(crate) name_column: Option<String>,
    /// Column of a `csv` data set with people's scores; larger is better
    #[arg(long, value_name = "COLUMN")]
    pub(crate) score_column: Option<String>,
    /// Column of a `csv` data set with the kind of distortion
    #[arg(long, value_name = "COLUMN")]
    pub(crate) kind_column: Option<String>,
    /// Leave out the images with which the observers were trained (`livec`: 7)
    #[arg(long)]
    pub(crate) without_training: bool,
    /// Only images whose name matches this glob, such as `I0[1-3]_*`. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) subset: Vec<String>,
    /// Only images that this file lists, one name per line
    #[arg(long, value_name = "FILE")]
    pub(crate) split: Option<PathBuf>,
    /// Only the first images, after `--subset` and `--split`
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

impl LabelArgs {
    pub(crate) fn columns(&self) -> CsvColumns {
        CsvColumns {
            name: self.name_column.clone(),
            opinion: self.score_column.clone(),
            kind: self.kind_column.clone(),
        }
    }
}

/// The rules of the join.
#[derive(Debug, ClapArgs)]
pub(crate) struct JoinArgs {
    /// Rule by which a label and a score belong together
    #[arg(long = "join", value_enum, default_value_t)]
    rule: JoinRule,
    /// Score of a label without a score; the authors' program takes 1
    #[arg(long, value_name = "SCORE")]
    missing: Option<f64>,
    /// Leave out images with a score of 0, as the authors' program does
    #[arg(long)]
    drop_zero: bool,
}

impl JoinArgs {
    pub(crate) fn options(&self) -> JoinOptions {
        JoinOptions { rule: self.rule, missing: self.missing, drop_zero: self.drop_zero }
    }
}

/// The resamples of the intervals.
#[derive(Debug, ClapArgs)]
pub(crate) struct BootstrapArgs {
    /// Number of resamples for the 95 % intervals
    #[arg(long, value_name = "N", default_value = "2000")]
    resamples: NonZeroUsize,
    /// Seed of the resamples; the same seed gives the same intervals
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl BootstrapArgs {
    pub(crate) fn bootstrap(&self) -> Bootstrap {
        Bootstrap { resamples: self.resamples, seed: self.seed }
    }
}
