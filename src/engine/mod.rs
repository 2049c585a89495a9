//! A segmenter and a scorer behind two traits, each on the threads of its devices.
//!
//! ```text
//!  Picture ── Segmenter::prepare ──► lane `segment` ──► RawMask per object
//!  Crop    ── Scorer::prepare ─────► lane `score` ────► LevelDistribution
//!             (blocking threads)     (queue, batches, a thread per device)
//! ```
//! [`Engine`] is what the pipeline holds, and [`Segmenter`] and [`Scorer`] are what a model
//! implements. `model_lane` puts a model behind its `lane`, the queue in front of its devices, and
//! `engine_lanes` asks every scorer that the setting in `scorers` names.
//! `adapters` implement the traits for the models of `crate::models`; `dog_iqa_plan` plans the
//! engine of the paper from two of them. `server` rates on a server in place of the second lane.
//! `chat` generates free-text answers for `dogiqa ask`.
//!
//! May import `redact`, `outbound_http`, `backoff`, `secret`, `priority`, `telemetry`, `method`,
//! `imaging`, `models` and `checkpoints`; knows nothing of Kafka or storage.

mod adapters;
mod chat;
mod dog_iqa_plan;
#[expect(clippy::module_inception, reason = "the file is named after its type, `Engine`")]
mod engine;
mod engine_lanes;
mod error;
mod info;
pub(crate) mod lane;
mod memory;
mod model;
mod model_lane;
mod scorers;
mod server;
mod settings;
mod traits;
mod warm_up;

pub use adapters::classic::{ClassicScorer, ClassicSegmenter, ReducedPicture};
pub use adapters::clip_iqa::{ClipIqaScorer, FittedCrop};
pub use adapters::mplug_owl3::{CropViews, MplugOwl3Scorer};
pub use adapters::qwen3_5_vl::{CropPatches, Qwen3_5VlScorer};
pub use adapters::recorded::RecordedMasks;
pub use adapters::sam2::{Sam2Error, Sam2Segmenter};
pub use adapters::{ClipIqaError, MplugOwl3Error, Qwen3_5VlError};
pub use chat::{ChatQuestion, MplugOwl3Chat};
pub use engine::Engine;
pub use error::EngineError;
pub use info::{EngineInfo, ModelInfo, NetworkSettings, ScorerShare, WeightsFile};
pub use lane::RunError;
pub use memory::{TooLittleMemory, machine_memory};
pub use scorers::{RatedBy, Scorers, ScorersByPart, WeightedScorer};
pub use server::{HttpScorer, HttpSettings, OutageKind, ServerError, ServerOutage, ServerReport};
pub use settings::{
    Devices, DogIqaSettings, EngineLimits, EngineName, LaneLimits, LaneSettings, Precision,
    Settings, ShadowSettings, WarmUp,
};
pub use traits::{Scorer, Segmenter};
