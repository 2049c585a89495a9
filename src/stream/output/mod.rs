//! From a record to its acknowledged event or dead letter.

pub(crate) mod answer;
pub(crate) mod outage;
pub(crate) mod outbox;
pub(crate) mod output_record;
pub(crate) mod publisher;
pub(crate) mod transaction_committer;
pub(crate) mod transactional_producer;
