//! `dogiqa enqueue`: writes references from a folder, a list or a bucket prefix to the input topic.
//!
//! ```text
//!  reference_source ─► reference_check ─► rate limit ─► reference_sink ─► progress_recorder
//!                      ╰─────── planned_steps ───────╯  ≤ IN_FLIGHT_MAX   in source order
//!                                                       unacknowledged
//! ```
//!
//! Follows the rule of `commands` for imports.

mod command;
mod planned_steps;
mod progress_recorder;
mod reference_check;
mod reference_sink;
mod reference_source;
mod saved_progress;

pub(crate) use command::{Args, run};
