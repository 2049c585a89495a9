//! The page of `dogiqa monitor`: counts answers in sliding windows, and serves them.
//!
//! ```text
//! topics ─► feed ─► board (aggregator: windows of buckets) ─► server ─► pages
//!           lag  ─►                                           thumbnails, outlines
//! ```
//!
//! The aggregator is pure and its memory fixed: 2 × 60 buckets of at most 128 series of a kilobyte,
//! and 256 rejected images with their regions as text, at most 40 MB together. With a shadow, its
//! series and the events that wait for their partners are at most 30 MB more. A page receives one
//! snapshot a second, however many answers arrive.
//!
//! May import `redact`, `http_server`, `telemetry` for names of this machine, `method` for masks
//! and agreement, `storage` and `imaging` for thumbnails, and `stream`.

mod aggregator;
mod answer_record;
mod board;
mod counts;
mod drift;
mod engine_comparison;
mod error;
mod event_pairs;
mod feed;
mod filter;
mod label_set;
mod limits;
mod outline_path;
mod rejected_images;
mod server;
mod settings;
mod short_text;
mod snapshot;
mod thumbnails;
mod windows;

pub use aggregator::Aggregator;
pub use board::{Board, Connection, Interruption, Lag, Problem};
pub use error::MonitorError;
pub use feed::{Feed, connection};
pub use filter::{Filter, FilterError};
pub use server::PageServer;
pub use settings::Settings;
pub use snapshot::Snapshot;
