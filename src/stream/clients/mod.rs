//! Clients next to a worker: one writes references to its input topic, one reads answers from its
//! output topics.
//!
//! This folder may import `broker`, `dead_letters`, `output` and `record`, besides `error` and
//! `settings`. No other folder imports it.

pub(crate) mod answer_reader;
pub(crate) mod output_reader;
pub(crate) mod reference_writer;
