//! Kafka in, Kafka out. Consumes references, answers each with an event or a dead letter, and
//! commits no offset before its record is answered.
//!
//! ```text
//!         ┌─ polling thread ───────────┐         ┌─ one task per record ────┐
//! input ─►│ poll, hold back, pause,    │ batches │ parse, assess, publish   │─► events
//!         │ rebalance, commit          ├────────►│                          │─► dead letters
//!         └────────▲───────────────────┘         └────────────┬─────────────┘
//!                  └────── windows of slots per partition ◄───┘ answered
//! ```
//!
//! `at-least-once`: a task publishes its answer itself, then its slot counts as answered. A crash
//! repeats the records that were not committed. `exactly-once`: a task passes its answer to the
//! outbox and waits. The polling thread writes the answers that are next in order and commits their
//! offsets in the same transaction.
//!
//! A row may import the rows above it:
//!
//! | folder or file | contents |
//! |---|---|
//! | `error` | the errors that end a worker or a client |
//! | `status` | the first fatal error, the counts and the readiness of a worker |
//! | `properties`, `settings` | librdkafka properties of the user; the settings and their manual |
//! | `offsets` | which offsets may be committed; names nothing else |
//! | `record` | a consumed record in flight, its budget, its headers |
//! | `broker` | Kafka errors, client configurations, probe, topics, reading without a group |
//! | `output` | publishing an answer, alone or in a transaction |
//! | `intake` | the polling thread: consumer, rebalances, back-pressure, commits, lag |
//! | `dead_letters` | reading dead letters back and replaying them |
//! | `clients` | writing references and reading answers, next to a worker |
//! | `worker` | the life of a worker, from the first probe to the last commit |

mod broker;
mod clients;
mod dead_letters;
mod error;
mod intake;
mod offsets;
mod output;
mod properties;
mod record;
mod settings;
mod status;
pub mod worker;

pub use broker::backlog::{Backlog, backlog};
pub use broker::embedded::EmbeddedBroker;
pub use broker::group_lag::{GroupLag, LagReport};
pub use broker::probe::{ClusterReport, TopicReport, probe, probe_input};
pub use broker::topic_reader::Start;
pub use broker::topics::{TopicSettings, topic_settings};
pub use clients::answer_reader::{AnswerReader, WorkerAnswer};
pub use clients::output_reader::{OutputReader, OutputRecord};
pub use clients::reference_writer::ReferenceWriter;
pub use dead_letters::destination::Destination;
pub use dead_letters::reader::DeadLetterReader;
pub use dead_letters::record::DeadLetter;
pub use dead_letters::replay::{ReplaySummary, dry_run, replay};
pub use dead_letters::replay_policy::{ReplayOutcome, ReplayRefusal};
pub use dead_letters::request::ReplayRequest;
pub use error::StreamError;
pub use output::output_record::{Outgoing, PublishError};
pub use output::publisher::Publisher;
pub use output::shadow::Shadow;
pub use properties::Properties;
pub use settings::{DeliveryMode, GroupProtocol, Settings};
pub use worker::Summary;
