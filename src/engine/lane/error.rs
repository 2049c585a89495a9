//! Errors of a lane and of the model behind it.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::server::ServerError;

/// An error of a model, classified by what the lane can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// One input is at fault, or the batch is too large: smaller batches may succeed.
    #[error("{0}")]
    Batch(Arc<str>),
    /// The model computed NaN or infinity for an input: other inputs may succeed.
    #[error("{0}")]
    NotNumbers(Arc<str>),
    /// The device is unusable (sticky CUDA error, lost context): nothing on its thread can succeed.
    #[error("device lost: {0}")]
    Device(Arc<str>),
}

/// The reason why a submitted input has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneError {
    /// The model failed on this input, or its device is lost.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The server that takes the place of the lane has not rated this input.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The batch of this input exceeded the time limit; its result is dropped.
    #[error("the device did not answer within {0:?}")]
    TimedOut(Duration),
    /// Every device thread has ended.
    #[error("lane `{0}` is closed")]
    Closed(&'static str),
}
