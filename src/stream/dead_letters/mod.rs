//! Reads dead letters back and replays each of them once.
//!
//! `reader` reads the topic, `replay_policy` decides for each dead letter, and `replay` sends it
//! together with its entry in the `ledger`, in one transaction.
//!
//! This folder may import `broker`, `output` and `record`, besides `error` and `settings`. Only
//! `clients` imports it.

pub(crate) mod destination;
pub(crate) mod ledger;
mod pace;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod replay_policy;
pub(crate) mod request;
