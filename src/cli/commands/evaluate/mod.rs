//! `dogiqa evaluate`: agreement of scores with people's scores on public data sets.
//!
//! Follows the rule of `commands` for imports.

mod arguments;
mod command;
mod data_folder;
mod engine_pairs;
mod figures_table;
mod metric_scores;
mod outcome;
mod report;
mod scoring;
mod variations;

pub(crate) use arguments::Args;
pub(crate) use command::run;
