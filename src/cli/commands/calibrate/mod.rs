//! `dogiqa calibrate`: thresholds and curves for the data at hand, as configuration.
//!
//! Follows the rule of `commands` for imports.

mod arguments;
mod command;
mod curve_picture;
mod figures;
mod images;

pub(crate) use arguments::Args;
pub(crate) use command::run;
