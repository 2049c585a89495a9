//! Reads dead letters back and replays each of them once.

pub(crate) mod ledger;
pub(crate) mod record;
pub(crate) mod replay;
