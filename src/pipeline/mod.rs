//! Assesses one image, in the same way for a Kafka record and for a file on the command line.
//!
//! ```text
//! ImageReference ► FetchedImage ► Picture ► Segmentation ► ratings ► Assessment ► QualityEvent
//!                  bytes budget   pixels budget, until the event is built
//!                                  ├─► measures, at the same time ─────────────────┤
//!                                  └─► reasons, while the regions are rated ───────┘
//! ```
//!
//! Each stage limits its concurrency and its time per image. Two budgets bound the memory of all
//! images in flight.
//!
//! With a cache, an image with known bytes continues from `FetchedImage` to `Assessment`.
//!
//! May import `priority`, `telemetry`, `method`, `metrics`, `event`, `storage`, `imaging`,
//! `reasons`, `checkpoints`, `cache` and `engine`; never `stream`.

mod answer;
mod answer_store;
mod blocking;
mod budget;
mod child_trace;
mod duplicates;
mod error;
mod journey;
mod memory;
mod provenance;
mod reason_stage;
mod settings;
mod stage_limiter;
mod stages;
mod upload;

pub(crate) use child_trace::child_trace;
pub use duplicates::DuplicateSettings;
pub use error::JourneyError;
pub use journey::{Journey, JourneyParts};
pub use settings::{Settings, StageLimits};
pub use upload::{Upload, UploadSpace};

pub use crate::priority::Priority;
