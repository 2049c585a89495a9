//! Errors of an engine, with their stable codes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::lane::{LaneError, RunError};
use crate::engine::memory::TooLittleMemory;
use crate::engine::server::ServerError;
use crate::models::device::DeviceError;

/// The reason why an engine did not open, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The operating system refused a thread.
    #[error("the engine's thread did not start: {0}")]
    Start(#[from] io::Error),
    /// The engine needs weights, and the settings name none.
    #[error(
        "engine.dog_iqa.{key} names no model; set it to a preset (`dogiqa models list`), a file or a folder, \
         or engine.name = \"classic\""
    )]
    NoWeights {
        /// The setting.
        key: &'static str,
    },
    /// The scorer of the objects reads one image, and the settings show it two.
    #[error(
        "engine.dog_iqa.rating.crop_context = \"whole\" shows an object next to the whole image, and \
         {scorer} reads one image; rate the objects by an mPLUG-Owl3, or set \"none\""
    )]
    OneImage {
        /// The scorer, as the setting names it.
        scorer: String,
    },
    /// The weights cannot be used.
    #[error("engine.dog_iqa.{key}: {message}")]
    Weights {
        /// The setting that names them.
        key: &'static str,
        /// The cause, with the file.
        message: String,
    },
    /// The device cannot be used.
    #[error("engine.dog_iqa.device: {0}")]
    Device(#[from] DeviceError),
    /// The device has too little memory for the models.
    #[error("engine.dog_iqa: {0}")]
    Memory(#[from] TooLittleMemory),
    /// The device cannot run even one input.
    #[error(
        "engine.dog_iqa: the device cannot run even a single input: {0}; choose smaller models, \
         another device, or warm_up = \"never\" to skip this check"
    )]
    WarmUp(RunError),
    /// The model's output for the first input is not a number.
    #[error(
        "engine.dog_iqa: {0} at the warm-up. If engine.dog_iqa.dtype is f16, the values are too large \
         for it: set \"bf16\" or \"f32\". Otherwise the weights are damaged: see `dogiqa models verify`"
    )]
    NotNumbers(Arc<str>),
    /// This picture could not be segmented; others can.
    #[error("segmentation failed: {0}")]
    Segment(Arc<str>),
    /// This crop could not be rated; others can.
    #[error("scoring failed: {0}")]
    Score(Arc<str>),
    /// The batch of this picture exceeded its time on the device.
    #[error(
        "the device did not segment it within {0:?}; raise pipeline.segment.timeout or lower \
         engine.segment.batch_pixels"
    )]
    SegmentTimeout(Duration),
    /// The batch of this crop exceeded its time on the device.
    #[error(
        "the device did not rate it within {0:?}; raise pipeline.score.timeout or lower engine.score.batch_pixels"
    )]
    ScoreTimeout(Duration),
    /// The scoring server has not rated this crop.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The device is lost, and no request succeeds until the process restarts.
    #[error("the engine is lost: {0}")]
    Lost(String),
}

impl EngineError {
    /// Returns the stable name in dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Start(_) | Self::WarmUp(_) | Self::NotNumbers(_) => "engine.start_failed",
            Self::Device(_) => "engine.no_device",
            Self::Memory(_) => "engine.too_little_memory",
            Self::NoWeights { .. } | Self::OneImage { .. } | Self::Weights { .. } => {
                "engine.weights_failed"
            }
            Self::Segment(_) => "segment.failed",
            Self::Score(_) => "score.failed",
            Self::SegmentTimeout(_) => "segment.timeout",
            Self::ScoreTimeout(_) => "score.timeout",
            Self::Server(error) => error.code(),
            Self::Lost(_) => "engine.lost",
        }
    }

    pub(crate) fn from_segmenter(error: LaneError) -> Self {
        match error {
            LaneError::Run(RunError::Batch(message) | RunError::NotNumbers(message)) => {
                Self::Segment(message)
            }
            LaneError::TimedOut(limit) => Self::SegmentTimeout(limit),
            LaneError::Server(error) => Self::Server(error),
            LaneError::Run(RunError::Device(message)) => Self::Lost(message.to_string()),
            LaneError::Closed(_) => Self::Lost(error.to_string()),
        }
    }

    pub(crate) fn from_scorer(error: LaneError) -> Self {
        match error {
            LaneError::Run(RunError::Batch(message) | RunError::NotNumbers(message)) => {
                Self::Score(message)
            }
            LaneError::TimedOut(limit) => Self::ScoreTimeout(limit),
            LaneError::Server(error) => Self::Server(error),
            LaneError::Run(RunError::Device(message)) => Self::Lost(message.to_string()),
            LaneError::Closed(_) => Self::Lost(error.to_string()),
        }
    }
}
