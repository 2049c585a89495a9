//! The two traits that a model implements to be part of an engine.

use candle_core::Device;

use crate::engine::info::ModelInfo;
use crate::engine::lane::RunError;
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, RawMask};

/// Finds the objects of a picture.
///
/// The engine calls `prepare` on CPU threads and `segment` on the device thread, so that a device
/// never waits for a resize.
pub trait Segmenter: Send + Sync + 'static {
    /// A prepared picture. It must be in CPU memory, because it is passed between threads.
    type Input: Send + 'static;

    /// Returns name, version and weights.
    fn info(&self) -> ModelInfo;

    /// Converts a picture to the model's input.
    ///
    /// # Errors
    /// [`RunError::Batch`] if this picture cannot be prepared.
    fn prepare(&self, picture: &Picture) -> Result<Self::Input, RunError>;

    /// Returns the pixels that the model computes for an input. A batch is limited by their sum.
    fn cost(input: &Self::Input) -> usize;

    /// Returns the masks of each input, in the order of the inputs and in the frame of its picture.
    ///
    /// # Errors
    /// [`RunError::Batch`] if smaller batches may succeed, [`RunError::NotNumbers`] if the output
    /// for an input is not a number, [`RunError::Device`] if no batch can succeed.
    fn segment(&self, batch: &[Self::Input]) -> Result<Vec<Vec<RawMask>>, RunError>;

    /// Returns the device whose memory a batch takes; the CPU unless the model overrides it.
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    /// Lowers the memory that even a single input takes, at the cost of speed. The warm-up calls it
    /// if a batch does not fit. Returns false if nothing can be lowered, which is the default.
    fn shrink(&mut self) -> bool {
        false
    }
}

/// Rates crops on the levels of one standard.
///
/// The engine calls `prepare` on CPU threads and `rate` on the device thread.
pub trait Scorer: Send + Sync + 'static {
    /// A prepared crop. It must be in CPU memory, because it is passed between threads.
    type Input: Send + 'static;

    /// Returns name, version and weights.
    fn info(&self) -> ModelInfo;

    /// Converts a crop to the model's input.
    ///
    /// # Errors
    /// [`RunError::Batch`] if this crop cannot be prepared.
    fn prepare(&self, crop: &Crop) -> Result<Self::Input, RunError>;

    /// Returns the pixels that the model computes for an input. A batch is limited by their sum.
    fn cost(input: &Self::Input) -> usize;

    /// Returns the level distribution of each input, in the order of the inputs.
    ///
    /// # Errors
    /// [`RunError::Batch`] if smaller batches may succeed, [`RunError::NotNumbers`] if the output
    /// for an input is not a number, [`RunError::Device`] if no batch can succeed.
    fn rate(&self, batch: &[Self::Input]) -> Result<Vec<LevelDistribution>, RunError>;

    /// Returns the device whose memory a batch takes; the CPU unless the model overrides it.
    fn device(&self) -> &Device {
        &Device::Cpu
    }
}
