//! The brokers as seen by a client: errors, configurations, topics.
//!
//! [`kafka_error`] classifies error codes. [`client_config`] builds the librdkafka configurations.
//! [`client_log`] logs what the clients report, and [`notices`] reads facts from it. [`unreadable`]
//! finds a partition that cannot be read.
//! [`probe`] and [`topics`] find and create topics, and explain why the brokers cannot be used.
//! [`backlog`] compares the group's position with what retention deletes, [`group_lag`] with the
//! end of the topic. [`topic_identity`] distinguishes a topic from a deleted one.
//! [`topic_reader`] reads topics outside of any group, and [`read_positions`] has the next record
//! of each partition. [`embedded`] is a broker for the demo and for tests.
//!
//! This folder may import `error`, `properties`, `settings` and `record`.

pub(crate) mod backlog;
mod client_config;
pub(crate) mod client_log;
mod connection_errors;
pub(crate) mod embedded;
pub(crate) mod group_lag;
pub(crate) mod kafka_error;
pub(crate) mod notices;
pub(crate) mod partition_list;
pub(crate) mod probe;
pub(crate) mod read_positions;
pub(crate) mod sasl_login;
mod tls_diagnosis;
pub(crate) mod topic_identity;
pub(crate) mod topic_reader;
pub(crate) mod topics;
pub(crate) mod unreadable;
