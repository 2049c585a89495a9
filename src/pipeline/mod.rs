//! Assesses one image, in the same way for a Kafka record and for a file on the command line.
//!
//! ```text
//! ImageReference ► FetchedImage ► Picture ► Segmentation ► ratings ► Assessment ► QualityEvent
//!                  bytes budget   pixels budget, until the event is built
//!                                  └─► measures, at the same time ─────────────────┘
//! ```
//!
//! Each stage limits its concurrency and its time per image. Two budgets bound the memory of all
//! images in flight.
//!
//! With a cache, an image with known bytes continues from `FetchedImage` to `Assessment`.
//!
//! May import `telemetry`, `method`, `metrics`, `event`, `storage`, `imaging`, `checkpoints`,
//! `cache` and `engine`; never `stream`.

mod answer;
mod answer_store;
mod blocking;
mod budget;
mod duplicates;
mod error;
mod journey;
mod memory;
mod provenance;
mod settings;
mod stage_limiter;

pub use duplicates::DuplicateSettings;
pub use error::JourneyError;
pub use journey::{Journey, JourneyParts};
pub use settings::{Settings, StageLimits};
