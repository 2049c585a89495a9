//! The smallest engine: fixed masks, fixed levels, no work. Only the pipeline itself remains.

use std::sync::Arc;
use std::time::Duration;

use dog_iqa::engine::{Engine, EngineLimits, ModelInfo, RunError, Scorer, Segmenter};
use dog_iqa::imaging::{Crop, Picture};
use dog_iqa::method::{LevelDistribution, RawMask};
use image::RgbImage;

/// A fault of a model, triggered by the width of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Fails each batch with this image.
    Fails,
    /// Panics.
    Panics,
    /// Panics while the image is prepared.
    PanicsBefore,
    /// Loses the device.
    LosesDevice,
    /// Blocks the device thread for this long, past the timeout of the stage.
    Blocks(Duration),
}

/// Returns an engine that finds no masks and rates everything 4 of 7, except for these widths.
pub(crate) fn engine(troubles: &[(u32, Trouble)]) -> Engine {
    troubled_engine(troubles, &[], EngineLimits::default())
}

/// Like [`engine`], with troubles of the segmenter and of the scorer.
pub(crate) fn troubled_engine(
    segmenter: &[(u32, Trouble)],
    scorer: &[(u32, Trouble)],
    limits: EngineLimits,
) -> Engine {
    let segmenter = NoMasks { troubles: segmenter.to_vec() };
    let scorer = AlwaysFour { troubles: scorer.to_vec() };
    Engine::new("no-op", "1", segmenter, scorer, limits).expect("two threads start")
}

struct NoMasks {
    troubles: Vec<(u32, Trouble)>,
}

/// Rates everything 4 of 7.
#[derive(Default)]
pub(crate) struct AlwaysFour {
    troubles: Vec<(u32, Trouble)>,
}

/// Prepares an input, unless the image's trouble is a panic in this step.
fn prepared(pixels: &Arc<RgbImage>, troubles: &[(u32, Trouble)]) -> Arc<RgbImage> {
    assert!(trouble_of(pixels.width(), troubles) != Some(Trouble::PanicsBefore), "asked to panic");
    Arc::clone(pixels)
}

fn trouble_of(width: u32, troubles: &[(u32, Trouble)]) -> Option<Trouble> {
    troubles.iter().find(|(of, _)| *of == width).map(|(_, trouble)| *trouble)
}

/// Applies the troubles of the batch's images.
fn run(batch: &[Arc<RgbImage>], troubles: &[(u32, Trouble)]) -> Result<(), RunError> {
    for image in batch {
        match trouble_of(image.width(), troubles) {
            Some(Trouble::Fails) => return Err(RunError::Batch("asked to fail".into())),
            Some(Trouble::Panics) => panic!("asked to panic"),
            Some(Trouble::LosesDevice) => return Err(RunError::Device("asked to".into())),
            // The blocked thread is the fault under test.
            Some(Trouble::Blocks(time)) => std::thread::park_timeout(time),
            Some(Trouble::PanicsBefore) | None => {}
        }
    }
    Ok(())
}

fn info(name: &str) -> ModelInfo {
    ModelInfo { name: name.to_owned(), version: "1".to_owned(), weights: Vec::new() }
}

impl Segmenter for NoMasks {
    type Input = Arc<RgbImage>;

    fn info(&self) -> ModelInfo {
        info("no-masks")
    }

    fn prepare(&self, picture: &Picture) -> Result<Arc<RgbImage>, RunError> {
        Ok(prepared(picture.pixels(), &self.troubles))
    }

    fn cost(_: &Arc<RgbImage>) -> usize {
        1
    }

    fn segment(&self, batch: &[Arc<RgbImage>]) -> Result<Vec<Vec<RawMask>>, RunError> {
        run(batch, &self.troubles)?;
        Ok(vec![Vec::new(); batch.len()])
    }
}

impl Scorer for AlwaysFour {
    type Input = Arc<RgbImage>;

    fn info(&self) -> ModelInfo {
        info("always-four")
    }

    fn prepare(&self, crop: &Crop) -> Result<Arc<RgbImage>, RunError> {
        Ok(prepared(&crop.pixels, &self.troubles))
    }

    fn cost(_: &Arc<RgbImage>) -> usize {
        1
    }

    fn rate(&self, batch: &[Arc<RgbImage>]) -> Result<Vec<LevelDistribution>, RunError> {
        run(batch, &self.troubles)?;
        let four = LevelDistribution::new(vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        Ok(vec![four.expect("a distribution over seven levels"); batch.len()])
    }
}
