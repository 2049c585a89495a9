//! The polling thread: it owns the consumer and all state that only one thread may change.
//!
//! librdkafka's callbacks send a message to that thread (`kafka_events`). It reads them and the
//! records (`group_consumer`), follows changes of the assignment (`rebalance`), admits records or
//! pauses partitions (`admission`), commits (`commits`), reports lag (`librdkafka_statistics`),
//! watches positions (`position_watch`), reads a topic that was created again from its beginning
//! (`recreated_topic`), responds to errors (`consumer_errors`), and passes on a changed password
//! (`client_login`).
//!
//! May import `status`, `record`, `offsets`, `broker`, `output`, `settings` and `error`.

pub(crate) mod admission;
pub(crate) mod client_login;
pub(crate) mod commits;
pub(crate) mod consumer_errors;
pub(crate) mod group_consumer;
pub(crate) mod kafka_events;
pub(crate) mod librdkafka_statistics;
pub(crate) mod polling;
pub(crate) mod position_watch;
pub(crate) mod rebalance;
mod recreated_topic;
