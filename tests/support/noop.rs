//! An engine without models: no masks, fixed levels, no work. Tests and benchmarks of the pipeline
//! and the stream use it.

use std::sync::Arc;
use std::time::Duration;

use dog_iqa::engine::{Engine, EngineLimits, ModelInfo, RunError, Scorer, Segmenter};
use dog_iqa::imaging::{Crop, Picture};
use dog_iqa::method::{LevelDistribution, RawMask};
use dog_iqa::models::ModelInput;
use image::RgbImage;

/// A model's fault on an image with a given width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Fails each batch with this image.
    Fails,
    /// Panics.
    Panics,
    /// Panics while it prepares the input.
    PanicsBefore,
    /// Loses the device.
    LosesDevice,
    /// Blocks the device thread for this long, past the timeout of the stage.
    Blocks(Duration),
}

/// Returns an engine without masks that rates every image 4 of 7. Its segmenter fails on images of
/// the given widths.
pub(crate) fn engine(troubles: &[(u32, Trouble)]) -> Engine {
    troubled_engine(troubles, &[], EngineLimits::default())
}

/// Returns an engine whose segmenter and scorer fail on images of the given widths.
pub(crate) fn troubled_engine(
    segmenter: &[(u32, Trouble)],
    scorer: &[(u32, Trouble)],
    limits: EngineLimits,
) -> Engine {
    let segmenter = Arc::new(NoMasks { troubles: segmenter.to_vec() });
    let scorer = Arc::new(AlwaysFour { troubles: scorer.to_vec() });
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

/// Prepares an input. Panics if the image's fault is [`Trouble::PanicsBefore`].
fn prepared(pixels: &Arc<RgbImage>, troubles: &[(u32, Trouble)]) -> ModelInput {
    let size = pixels.dimensions();
    assert!(trouble_of(size.0, troubles) != Some(Trouble::PanicsBefore), "asked to panic");
    ModelInput::new(Arc::clone(pixels), size, 1)
}

fn trouble_of(width: u32, troubles: &[(u32, Trouble)]) -> Option<Trouble> {
    troubles.iter().find(|(of, _)| *of == width).map(|(_, trouble)| *trouble)
}

/// Applies the faults of a batch's images, in order.
fn run(batch: &[ModelInput], troubles: &[(u32, Trouble)]) -> Result<(), RunError> {
    for input in batch {
        match trouble_of(input.source_size().0, troubles) {
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
    fn info(&self) -> ModelInfo {
        info("no-masks")
    }

    fn prepare(&self, picture: &Picture) -> Result<ModelInput, RunError> {
        Ok(prepared(picture.pixels(), &self.troubles))
    }

    fn segment(&self, batch: &[ModelInput]) -> Result<Vec<Vec<RawMask>>, RunError> {
        run(batch, &self.troubles)?;
        Ok(vec![Vec::new(); batch.len()])
    }
}

impl Scorer for AlwaysFour {
    fn info(&self) -> ModelInfo {
        info("always-four")
    }

    fn prepare(&self, crop: &Crop) -> Result<ModelInput, RunError> {
        Ok(prepared(&crop.pixels, &self.troubles))
    }

    fn rate(&self, batch: &[ModelInput]) -> Result<Vec<LevelDistribution>, RunError> {
        run(batch, &self.troubles)?;
        let four = LevelDistribution::new(vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        Ok(vec![four.expect("a distribution over seven levels"); batch.len()])
    }
}
