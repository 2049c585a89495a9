//! What a model must do to be part of an engine.

use std::path::Path;

use crate::checkpoints::{WeightsError, sha256_of};
use crate::engine::lane::RunError;
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, RawMask};
use crate::models::ModelInput;

/// One file of weights, as events name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// File name without its folder.
    pub name: String,
    /// SHA-256 of its bytes in lower-case hexadecimal.
    pub sha256: String,
}

impl WeightsFile {
    /// Names a file of weights.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(path: &Path) -> Result<Self, WeightsError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, sha256: sha256_of(path)? })
    }
}

/// Which model answered: every event carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Stable name of the model.
    pub name: String,
    /// Changes whenever the same input may get another answer.
    pub version: String,
    /// The weights it runs on; empty where there are none.
    pub weights: Vec<WeightsFile>,
}

/// Finds the objects of a picture.
///
/// `prepare` runs on CPU threads, `segment` on the device thread, so that a device never waits for
/// a resize. `tests/support/conformance.rs` holds every implementation to the same promises.
pub trait Segmenter: Send + Sync {
    /// Name, version and weights.
    fn info(&self) -> ModelInfo;

    /// Makes the model's input of a picture.
    ///
    /// # Errors
    /// [`RunError::Batch`] when this picture cannot be prepared.
    fn prepare(&self, picture: &Picture) -> Result<ModelInput, RunError>;

    /// Masks of each input, in the order of the inputs and in the frame of its picture.
    ///
    /// # Errors
    /// [`RunError::Batch`] when smaller batches may pass, [`RunError::Device`] when nothing can.
    fn segment(&self, batch: &[ModelInput]) -> Result<Vec<Vec<RawMask>>, RunError>;
}

/// Rates crops on the levels of the standard it was opened with.
pub trait Scorer: Send + Sync {
    /// Name, version and weights.
    fn info(&self) -> ModelInfo;

    /// Makes the model's input of a crop.
    ///
    /// # Errors
    /// [`RunError::Batch`] when this crop cannot be prepared.
    fn prepare(&self, crop: &Crop) -> Result<ModelInput, RunError>;

    /// The levels of each input, in the order of the inputs.
    ///
    /// # Errors
    /// [`RunError::Batch`] when smaller batches may pass, [`RunError::Device`] when nothing can.
    fn rate(&self, batch: &[ModelInput]) -> Result<Vec<LevelDistribution>, RunError>;
}
