//! The models of `models::classic` behind the two traits. They need no weights.

use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use crate::engine::info::ModelInfo;
use crate::engine::lane::RunError;
use crate::engine::traits::{Scorer, Segmenter};
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, Mask, MaskError, RawMask};
use crate::models::classic;

/// Name of the engine in events. It differs from `dog-iqa`, because this is not the paper's method.
pub(crate) const NAME: &str = "classic";
/// Increased whenever the answer for the same picture may change.
pub(crate) const VERSION: &str = "1";

/// Graph-based segmentation (Felzenszwalb and Huttenlocher 2004), merged to few regions.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClassicSegmenter;

/// A picture that is reduced for the [`ClassicSegmenter`].
#[derive(Debug, Clone)]
pub struct ReducedPicture {
    reduced: Arc<RgbImage>,
    /// Width and height of the picture in pixels.
    size: (u32, u32),
}

impl ClassicSegmenter {
    /// Creates the segmenter. It has no settings, so that all classic engines answer alike.
    pub fn new() -> Self {
        Self
    }
}

impl Segmenter for ClassicSegmenter {
    type Input = ReducedPicture;

    fn info(&self) -> ModelInfo {
        model("felzenszwalb")
    }

    fn prepare(&self, picture: &Picture) -> Result<ReducedPicture, RunError> {
        let reduced = Arc::new(classic::reduced(picture.pixels()));
        Ok(ReducedPicture { reduced, size: (picture.width(), picture.height()) })
    }

    fn cost(input: &ReducedPicture) -> usize {
        pixels(&input.reduced)
    }

    fn segment(&self, batch: &[ReducedPicture]) -> Result<Vec<Vec<RawMask>>, RunError> {
        // The batch is shared among all cores; the answers keep their order.
        batch.par_iter().map(masks).collect()
    }
}

fn masks(input: &ReducedPicture) -> Result<Vec<RawMask>, RunError> {
    let labels = classic::segment(&input.reduced);
    let (width, height) = input.size;
    let unusable = |error: MaskError| RunError::Batch(error.to_string().into());
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
    /// Creates a scorer that rates from 1 to `levels`.
    pub fn new(levels: u8) -> Self {
        Self { levels }
    }

    fn rate_one(self, crop: &RgbImage) -> LevelDistribution {
        let features = classic::features::measure(crop);
        classic::distribution(classic::quality(&features, self.levels), self.levels)
    }
}

impl Scorer for ClassicScorer {
    type Input = Arc<RgbImage>;

    fn info(&self) -> ModelInfo {
        model("no-reference-measures")
    }

    /// Shares the pixels of the crop, because the measures use its full resolution.
    fn prepare(&self, crop: &Crop) -> Result<Arc<RgbImage>, RunError> {
        Ok(Arc::clone(&crop.pixels))
    }

    fn cost(input: &Arc<RgbImage>) -> usize {
        pixels(input).min(classic::features::PIXELS_MAX)
    }

    fn rate(&self, batch: &[Arc<RgbImage>]) -> Result<Vec<LevelDistribution>, RunError> {
        Ok(batch.par_iter().map(|crop| self.rate_one(crop)).collect())
    }
}

fn model(name: &str) -> ModelInfo {
    ModelInfo { name: name.to_owned(), version: VERSION.to_owned(), weights: Vec::new() }
}

fn pixels(image: &RgbImage) -> usize {
    image.width() as usize * image.height() as usize
}
