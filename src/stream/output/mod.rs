//! From a record to its acknowledged event or dead letter.
//!
//! `answer` produces it. At least once, `publisher` sends each answer alone. Exactly once, `outbox`
//! collects answers, and `transaction_committer` commits them with their positions through a
//! `transactional_producer`. `outage` decides if a failed fetch is worth a dead letter.
//!
//! May import `status`, `record`, `offsets`, `broker`, `settings` and `error`.

pub(crate) mod answer;
pub(crate) mod outage;
pub(crate) mod outbox;
pub(crate) mod output_record;
pub(crate) mod publisher;
pub(crate) mod transaction_committer;
pub(crate) mod transactional_producer;
