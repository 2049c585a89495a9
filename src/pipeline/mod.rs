//! The journey of one image, the same for a record of Kafka and a file on the command line.
//!
//! ```text
//!  ImageReference ─► FetchedImage ─► Picture ─► Segmentation ─► ratings ─► Assessment ─► QualityEvent
//!                    bytes budget    pixels budget, until the event is made
//! ```
//!
//! Each stage has a limit on images inside it and on their time there; the two budgets bound the
//! memory of everything in flight. Knows nothing of Kafka.

mod budget;
mod error;
mod journey;
mod memory;
mod provenance;
mod settings;

pub use error::Failure;
pub use journey::{Journey, JourneyParts};
pub use memory::MemoryPart;
pub use settings::{Settings, StageLimits};
