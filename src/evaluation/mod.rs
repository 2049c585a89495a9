//! Agreement of scores with people's opinions, as the field reports it, and the thresholds and
//! curves that follow from it.
//!
//! ```text
//!  label files ── labels ──► Label ──┐
//!                                    ├─ join ──► pairs ──► figures, comparison, calibration
//!  events or scores ─ scores ► Score ┘
//! ```
//! Pure functions: the bytes of the files come from `cli`. Random numbers are seeded.
//!
//! Imports `mat_file`, `method` and `event`.

mod ablation;
mod bootstrap;
mod calibration;
mod engine_pairs;
mod error;
mod figures;
mod join;
mod kinds;
mod labels;
mod level_bound;
mod name_matches;
mod paper;
mod scores;
mod table;

pub use ablation::{Ablation, ablations};
pub use bootstrap::{Bootstrap, Interval};
pub use calibration::{
    ChosenThreshold, MaskCounts, MaskWeight, Prices, Rates, Savings, Target, TargetError,
    best_mask_weight, choose_threshold, isotonic, mask_counts, rates, review_band, savings,
    short_threshold, threshold_curve,
};
pub use engine_pairs::{EngineNames, EnginePairs};
pub use error::EvaluationError;
pub use figures::{Comparison, Figure, FigureKind, Figures, compare};
pub(crate) use join::no_pairs;
pub use join::{Join, JoinOptions, join};
pub use kinds::{KindAgreement, agreement_by_kind};
pub use labels::{CsvColumns, DataSet, Label, LabelFile, Labels};
pub use level_bound::{BoundRounding, LevelBound, level_bound};
pub use name_matches::{JoinRule, NameMatches, match_names};
pub use paper::{PaperRow, PaperTable, paper_bound, paper_rows};
pub(crate) use scores::last_segment;
pub use scores::{Score, ScoreValue, Scores};
