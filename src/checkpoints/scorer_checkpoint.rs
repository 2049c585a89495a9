//! A checkpoint of any network that rates, recognised by its tensors.

use std::path::Path;

use crate::checkpoints::clip_iqa::ClipCheckpoint;
use crate::checkpoints::mplug_owl3::MplugOwl3Checkpoint;
use crate::checkpoints::qwen3_5_vl::Qwen3_5VlCheckpoint;
use crate::checkpoints::weights::{Weights, WeightsError};

/// A recognised checkpoint of a network that rates.
#[derive(Debug)]
pub enum ScorerCheckpoint {
    /// Of mPLUG-Owl3.
    MplugOwl3(MplugOwl3Checkpoint),
    /// Of Qwen3.5-VL.
    Qwen3_5Vl(Qwen3_5VlCheckpoint),
    /// Of CLIP.
    Clip(ClipCheckpoint),
}

impl ScorerCheckpoint {
    /// Opens a file, an index of shards, or a folder with one of them.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is of no network that rates.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::of(Weights::open(path)?)
    }

    /// Recognises opened weights, with the files next to them.
    ///
    /// # Errors
    /// Fails if the weights are of no network that rates, or a file next to them cannot be used.
    pub fn of(weights: Weights) -> Result<Self, WeightsError> {
        if Qwen3_5VlCheckpoint::is_of(&weights) {
            return Qwen3_5VlCheckpoint::of(weights).map(Self::Qwen3_5Vl);
        }
        if ClipCheckpoint::is_of(&weights) {
            return ClipCheckpoint::of(weights).map(Self::Clip);
        }
        MplugOwl3Checkpoint::of(weights).map(Self::MplugOwl3)
    }
}
