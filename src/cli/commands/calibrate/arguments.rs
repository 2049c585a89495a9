//! The arguments of `dogiqa calibrate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::evaluation::{Bootstrap, CsvColumns, Prices, Target};
use crate::method::Basis;

const EXAMPLES: &str = "Prints TOML for the worker's configuration, with the figures as comments.\n\n\
    Examples:\n  dogiqa calibrate --events week.jsonl --reject-share 0.05 --policy gallery\n  \
    dogiqa calibrate --events week.jsonl --decisions moderators.csv --false-reject 0.01 \
    --decided 0.9\n  \
    dogiqa calibrate --events koniq.jsonl --labels mos.csv --map isotonic --mask-bonus\n\n\
    Exit codes: 0 calibrated; 1 the target cannot be met, or a file cannot be read; 2 wrong usage.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Events as JSON lines, from `score`, `evaluate --save`, `watch` or the topic. May be repeated
    #[arg(long, required = true, value_name = "FILE")]
    pub(crate) events: Vec<PathBuf>,
    /// People's scores (CSV or XLSX: name, score); larger is better
    #[arg(long, value_name = "FILE", conflicts_with = "decisions")]
    pub(crate) labels: Option<PathBuf>,
    /// People's decisions (CSV or XLSX: name, accept or reject)
    #[arg(long, value_name = "FILE")]
    pub(crate) decisions: Option<PathBuf>,
    /// Column with the names of the images
    #[arg(long, value_name = "COLUMN")]
    name_column: Option<String>,
    /// Column with people's scores or decisions
    #[arg(long, value_name = "COLUMN")]
    label_column: Option<String>,
    /// People's score from which an image counts as good
    #[arg(long, value_name = "SCORE", requires = "labels")]
    pub(crate) good_from: Option<f64>,
    #[command(flatten)]
    target: TargetArgs,
    /// Width of the review band, so that this share of the images is decided without people
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub(crate) decided: Option<f64>,
    /// Name of the policy in the TOML
    #[arg(long, value_name = "NAME", default_value = "calibrated")]
    pub(crate) policy: String,
    /// One threshold for each policy that the events name
    #[arg(long, conflicts_with = "policy")]
    pub(crate) per_policy: bool,
    /// Score that the threshold is for
    #[arg(long, value_enum, default_value_t = BasisArg::Expected)]
    basis: BasisArg,
    /// Also fit the curve that maps scores to people's scale
    #[arg(long, value_enum, value_name = "FORM", requires = "labels")]
    pub(crate) map: Option<MapForm>,
    /// Also find the points for each mask that agree best with people
    #[arg(long, requires = "labels")]
    pub(crate) mask_bonus: bool,
    #[command(flatten)]
    prices: PriceArgs,
    /// Write the rates of all thresholds as an SVG picture
    #[arg(long, value_name = "FILE")]
    pub(crate) curve: Option<PathBuf>,
    /// Number of resamples for the 95 % intervals
    #[arg(long, value_name = "N", default_value = "2000")]
    resamples: NonZeroUsize,
    /// Seed of the resamples
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// The form of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MapForm {
    /// The four-parameter logistic
    Logistic,
    /// The best ascending curve; needs a few hundred images
    Isotonic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BasisArg {
    /// `score`, the combined levels
    Level,
    /// `score_expected`, the combined expected levels, which are finer
    Expected,
}

/// The wanted rate.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct TargetArgs {
    /// At most this share of the good images is rejected
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    false_reject: Option<f64>,
    /// At most this share of the bad images passes
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    false_accept: Option<f64>,
    /// At least this share of the images that pass is good
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    precision: Option<f64>,
    /// At most this share of all images is rejected; needs no labels
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    reject_share: Option<f64>,
}

/// Prices for the table of savings.
#[derive(Debug, clap::Args)]
struct PriceArgs {
    /// Price of a person's review of an image; with it, a table of savings is printed
    #[arg(id = "review_price", long = "review-price", value_name = "PRICE")]
    review: Option<f64>,
    /// Price of generating or receiving an image
    #[arg(
        long = "generation-price",
        value_name = "PRICE",
        default_value_t = 0.0,
        requires = "review_price"
    )]
    generation: f64,
    /// Price of scoring an image
    #[arg(
        long = "gate-price",
        value_name = "PRICE",
        default_value_t = 0.0,
        requires = "review_price"
    )]
    gate: f64,
}

impl Args {
    pub(crate) fn target(&self) -> Option<Target> {
        let TargetArgs { false_reject, false_accept, precision, reject_share } = self.target;
        let targets = [
            false_reject.map(Target::FalseReject),
            false_accept.map(Target::FalseAccept),
            precision.map(Target::Precision),
            reject_share.map(Target::RejectShare),
        ];
        targets.into_iter().flatten().next()
    }

    pub(crate) fn prices(&self) -> Option<Prices> {
        let PriceArgs { review, generation, gate } = self.prices;
        review.map(|review| Prices { generation, review, gate })
    }

    pub(crate) fn basis(&self) -> Basis {
        match self.basis {
            BasisArg::Level => Basis::Level,
            BasisArg::Expected => Basis::Expected,
        }
    }

    pub(crate) fn columns(&self) -> CsvColumns {
        CsvColumns {
            name: self.name_column.clone(),
            opinion: self.label_column.clone(),
            kind: None,
        }
    }

    pub(crate) fn bootstrap(&self) -> Bootstrap {
        Bootstrap { resamples: self.resamples, seed: self.seed }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a share; give a number from 0 to 1"))
}
