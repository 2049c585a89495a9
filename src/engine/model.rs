//! One internal trait over segmenters and scorers, so that both are opened and fed by the same
//! code.

use candle_core::Device;

use crate::engine::info::ModelInfo;
use crate::engine::lane::RunError;
use crate::engine::traits::{Scorer, Segmenter};
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, RawMask};

/// A model from sources to outputs.
pub(crate) trait Model: Send + Sync + 'static {
    /// A picture or a crop.
    type Source: Clone + Send + 'static;
    type Input: Send + 'static;
    type Output: Send + 'static;

    fn info(&self) -> ModelInfo;
    fn prepare(&self, source: &Self::Source) -> Result<Self::Input, RunError>;
    fn cost(input: &Self::Input) -> usize;
    fn run(&self, batch: &[Self::Input]) -> Result<Vec<Self::Output>, RunError>;
    fn device(&self) -> &Device;
    fn shrink(&mut self) -> bool;
}

/// A segmenter as a model from pictures to masks.
pub(crate) struct SegmenterModel<M>(pub(crate) M);

impl<M: Segmenter> Model for SegmenterModel<M> {
    type Source = Picture;
    type Input = M::Input;
    type Output = Vec<RawMask>;

    fn info(&self) -> ModelInfo {
        self.0.info()
    }

    fn prepare(&self, picture: &Picture) -> Result<M::Input, RunError> {
        self.0.prepare(picture)
    }

    fn cost(input: &M::Input) -> usize {
        M::cost(input)
    }

    fn run(&self, batch: &[M::Input]) -> Result<Vec<Vec<RawMask>>, RunError> {
        self.0.segment(batch)
    }

    fn device(&self) -> &Device {
        self.0.device()
    }

    fn shrink(&mut self) -> bool {
        self.0.shrink()
    }
}

/// A scorer as a model from crops to level distributions.
pub(crate) struct ScorerModel<M>(pub(crate) M);

impl<M: Scorer> Model for ScorerModel<M> {
    type Source = Crop;
    type Input = M::Input;
    type Output = LevelDistribution;

    fn info(&self) -> ModelInfo {
        self.0.info()
    }

    fn prepare(&self, crop: &Crop) -> Result<M::Input, RunError> {
        self.0.prepare(crop)
    }

    fn cost(input: &M::Input) -> usize {
        M::cost(input)
    }

    fn run(&self, batch: &[M::Input]) -> Result<Vec<LevelDistribution>, RunError> {
        self.0.rate(batch)
    }

    fn device(&self) -> &Device {
        self.0.device()
    }

    fn shrink(&mut self) -> bool {
        false
    }
}
