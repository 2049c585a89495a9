//! Models behind two traits, each on a thread of its own.
//!
//! ```text
//!  Picture ── Segmenter::prepare ──► lane `segment` ──► RawMask per object
//!  Crop    ── Scorer::prepare ─────► lane `score` ────► LevelDistribution
//!             (blocking threads)     (queue, batches, a thread per device)
//! ```
//! [`Engine`] is what the pipeline holds; [`traits`] is what a model must do; [`lane`] is the queue
//! in front of a device; `classic` adapts the models that need no weights, `sam2` and `mplug_owl3` those
//! of the paper, which `dog_iqa` joins; `memory` and `warm_up` say what a device holds; `talk` lets the
//! latter speak freely, from what `opened` holds of both.

mod classic;
mod dog_iqa;
mod failure;
mod handle;
pub mod lane;
mod memory;
mod mplug_owl3;
mod opened;
mod sam2;
mod settings;
mod talk;
pub mod traits;
mod warm_up;

pub use classic::{ClassicScorer, ClassicSegmenter};
pub use handle::{Engine, EngineError, EngineInfo, EngineLimits, Limits};
pub use lane::RunError;
pub use memory::{TooLittleMemory, machine_memory};
pub use mplug_owl3::MplugOwl3Scorer;
pub use opened::MplugOwl3Error;
pub use sam2::{Sam2Error, Sam2Segmenter};
pub use settings::{
    Devices, DogIqaSettings, EngineName, LaneSettings, Precision, Settings, WarmUp,
};
pub use talk::{Ask, MplugOwl3Talker};
pub use traits::{ModelInfo, Scorer, Segmenter, WeightsFile};
