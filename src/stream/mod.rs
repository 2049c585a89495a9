//! Kafka: references in, answers out, and nothing committed before it is answered.
//!
//! ```text
//!            ┌─ polling thread ─────────────┐          ┌─ a task per record ──────────────┐
//!  input ──► │ consumer: take in, hold back,│ batches  │ answer: parse, journey, publish  │ ──► events
//!            │ pause, rebalance, commit     ├─────────►│ with the publisher               │ ──► dead letters
//!            └──────────▲───────────────────┘          └──────────────┬───────────────────┘
//!                       └────── partition: windows of offsets ◄───────┘ acknowledged
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `worker` | the life of a worker, from the first word with a broker to the last commit |
//! | `probe`, `tls` | are the brokers there, do they let us in, do the topics exist; why a certificate is not trusted |
//! | `consumer`, `rebalance`, `intake` | the polling thread, its callbacks, its back-pressure |
//! | `offsets`, `partition` | which offset may be committed (pure), and the lock around it |
//! | `delivery`, `headers` | a record in flight with its part of the budget; headers byte for byte |
//! | `answer`, `publisher`, `outage` | from a record to its event or dead letter |
//! | `outbox`, `transaction` | exactly once: answers that are next in line (pure), written together with their positions |
//! | `transactional` | a producer of transactions, step by step |
//! | `health`, `statistics` | whether the worker is ready, and how far it lags |
//! | `settings`, `properties` | what a user sets, and what librdkafka is told |
//! | `tail`, `letter` | reading topics from a place on, in no group; dead letters read back |
//! | `replay`, `ledger` | dead letters sent again, and the topic that remembers which were |
//! | `embedded`, `companion` | a broker in this process; writing references, reading answers |
//!
//! Delivery is at least once: a crash repeats what was not committed. Or exactly once: a task hands its
//! answer in and waits, the polling thread writes what is next in line and commits the positions behind
//! it, in one transaction.

mod broker;
mod clients;
mod dead_letters;
mod error;
mod intake;
mod offsets;
mod output;
mod record;
mod settings;
mod status;
pub mod worker;

pub use broker::embedded::EmbeddedBroker;
pub use broker::probe::{ClusterReport, TopicReport, in_sync_min, probe, probe_input};
pub use broker::properties::Properties;
pub use clients::companion::{Answer, AnswerReader, ReferenceWriter};
pub use clients::topic_reader::Start;
pub use dead_letters::record::{DeadLetter, DeadLetters};
pub use dead_letters::replay::{
    Destination, Fate, Refusal, ReplayRequest, ReplaySummary, dry_run, replay,
};
pub use error::StreamError;
pub use output::output_record::{Outgoing, PublishError};
pub use output::publisher::Publisher;
pub use settings::{DeliveryMode, GroupProtocol, Settings};
pub use worker::Summary;
