//! The smallest engine: fixed masks, fixed levels, no work. What remains is the road itself.

use std::sync::Arc;
use std::time::Duration;

use dog_iqa::engine::{Engine, EngineLimits, ModelInfo, RunError, Scorer, Segmenter};
use dog_iqa::imaging::{Crop, Picture};
use dog_iqa::method::{LevelDistribution, RawMask};
use dog_iqa::models::ModelInput;

/// What the engine does with an image that is so many pixels wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Fails this image alone.
    Fails,
    /// Panics.
    Panics,
    /// Loses the device.
    LosesDevice,
    /// Takes longer than any stage may.
    Sleeps(Duration),
}

/// An engine that finds nothing and rates everything 4 of 7, but for images of the named widths.
pub(crate) fn engine(troubles: &[(u32, Trouble)]) -> Engine {
    let segmenter = Arc::new(NoMasks { troubles: troubles.to_vec() });
    Engine::new("no-op", "1", segmenter, Arc::new(AlwaysFour), EngineLimits::default())
        .expect("two threads start")
}

struct NoMasks {
    troubles: Vec<(u32, Trouble)>,
}

/// Rates everything 4 of 7.
pub(crate) struct AlwaysFour;

fn info(name: &str) -> ModelInfo {
    ModelInfo { name: name.to_owned(), version: "1".to_owned(), weights: Vec::new() }
}

impl Segmenter for NoMasks {
    fn info(&self) -> ModelInfo {
        info("no-masks")
    }

    fn prepare(&self, picture: &Picture) -> Result<ModelInput, RunError> {
        let size = (picture.width(), picture.height());
        Ok(ModelInput::new(Arc::clone(picture.pixels()), size, 1))
    }

    fn segment(&self, batch: &[ModelInput]) -> Result<Vec<Vec<RawMask>>, RunError> {
        for input in batch {
            let width = input.source_size().0;
            match self.troubles.iter().find(|(of, _)| *of == width).map(|(_, trouble)| *trouble) {
                Some(Trouble::Fails) => return Err(RunError::Batch("asked to fail".into())),
                Some(Trouble::Panics) => panic!("asked to panic"),
                Some(Trouble::LosesDevice) => return Err(RunError::Device("asked to".into())),
                Some(Trouble::Sleeps(time)) => std::thread::park_timeout(time),
                None => {}
            }
        }
        Ok(vec![Vec::new(); batch.len()])
    }
}

impl Scorer for AlwaysFour {
    fn info(&self) -> ModelInfo {
        info("always-four")
    }

    fn prepare(&self, crop: &Crop) -> Result<ModelInput, RunError> {
        let size = crop.pixels.dimensions();
        Ok(ModelInput::new(Arc::clone(&crop.pixels), size, 1))
    }

    fn rate(&self, batch: &[ModelInput]) -> Result<Vec<LevelDistribution>, RunError> {
        let four = LevelDistribution::new(vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        Ok(vec![four.expect("a distribution over seven levels"); batch.len()])
    }
}
