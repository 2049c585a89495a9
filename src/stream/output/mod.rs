//! From a record to its acknowledged event or dead letter.
//!
//! `answer` produces it for each entry of a record, and `answer_writer` writes it, with the
//! `reason` of a dead letter. `latest_events` knows the objects that changed since. At least once,
//! `publisher` sends each answer alone. Exactly once, `outbox` collects answers, and
//! `transaction_committer` commits them with their positions through a `transactional_producer`.
//! `outage` decides if a failure of a `dependency` is worth a dead letter. `shadow` scores a share
//! of the answered images with a second engine.
//!
//! May import `status`, `record`, `offsets`, `broker`, `settings` and `error`.

pub(crate) mod answer;
pub(crate) mod answer_writer;
pub(crate) mod dependency;
pub(crate) mod latest_events;
pub(crate) mod outage;
pub(crate) mod outbox;
pub(crate) mod output_record;
pub(crate) mod publisher;
pub(crate) mod reason;
pub(crate) mod shadow;
pub(crate) mod transaction_committer;
pub(crate) mod transactional_producer;
