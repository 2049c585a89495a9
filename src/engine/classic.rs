//! The engine that needs no weights: `models::classic` behind the two traits.

use std::sync::Arc;

use rayon::prelude::*;

use crate::engine::lane::RunError;
use crate::engine::traits::{ModelInfo, Scorer, Segmenter};
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, Mask, RawMask};
use crate::models::ModelInput;
use crate::models::classic;

/// Name of the engine in events: it is not the paper's method, and says so.
pub(super) const NAME: &str = "classic";
/// Raised whenever the same picture may get another answer.
pub(super) const VERSION: &str = "1";

/// Graph-based segmentation (Felzenszwalb and Huttenlocher 2004), merged to few regions.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClassicSegmenter;

impl ClassicSegmenter {
    /// The segmenter; it has no settings, so that every classic engine answers alike.
    pub fn new() -> Self {
        Self
    }
}

impl Segmenter for ClassicSegmenter {
    fn info(&self) -> ModelInfo {
        model("felzenszwalb")
    }

    fn prepare(&self, picture: &Picture) -> Result<ModelInput, RunError> {
        let reduced = classic::reduced(picture.pixels());
        let cost = pixels(reduced.dimensions());
        Ok(ModelInput::new(Arc::new(reduced), (picture.width(), picture.height()), cost))
    }

    fn segment(&self, batch: &[ModelInput]) -> Result<Vec<Vec<RawMask>>, RunError> {
        // Every core takes a share; the answers keep their order.
        batch.par_iter().map(masks).collect()
    }
}

fn masks(input: &ModelInput) -> Result<Vec<RawMask>, RunError> {
    let labels = classic::segment(input.pixels());
    let (width, height) = input.source_size();
    let unusable = |error: crate::method::MaskError| RunError::Batch(error.to_string().into());
    let raw = |rle| {
        let mask = Mask::new(rle).map_err(unusable)?;
        Ok(RawMask { mask, predicted_iou: None, stability_score: None })
    };
    classic::masks(&labels, width, height).map_err(unusable)?.into_iter().map(raw).collect()
}

/// Hand-crafted no-reference measures, rated on the levels of a standard.
#[derive(Debug, Clone, Copy)]
pub struct ClassicScorer {
    levels: u8,
}

impl ClassicScorer {
    /// A scorer that rates from 1 to `levels`.
    pub fn new(levels: u8) -> Self {
        Self { levels }
    }

    fn rate_one(self, input: &ModelInput) -> LevelDistribution {
        let features = classic::features::measure(input.pixels());
        classic::distribution(classic::quality(&features, self.levels), self.levels)
    }
}

impl Scorer for ClassicScorer {
    fn info(&self) -> ModelInfo {
        model("no-reference-measures")
    }

    /// Shares the crop's pixels: measures are taken at its own resolution.
    fn prepare(&self, crop: &Crop) -> Result<ModelInput, RunError> {
        let size = crop.pixels.dimensions();
        let cost = pixels(size).min(classic::features::PIXELS_MAX);
        Ok(ModelInput::new(Arc::clone(&crop.pixels), size, cost))
    }

    fn rate(&self, batch: &[ModelInput]) -> Result<Vec<LevelDistribution>, RunError> {
        Ok(batch.par_iter().map(|input| self.rate_one(input)).collect())
    }
}

fn model(name: &str) -> ModelInfo {
    ModelInfo { name: name.to_owned(), version: VERSION.to_owned(), weights: Vec::new() }
}

fn pixels((width, height): (u32, u32)) -> usize {
    width as usize * height as usize
}
