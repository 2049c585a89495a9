//! A custom engine: the segmenter of `classic` with a scorer that measures only brightness.
//!
//! ```sh
//! cargo run --example custom_scorer -- examples/photos/cat.jpg
//! ```

use std::error::Error;
use std::sync::Arc;

use dog_iqa::engine::{ClassicSegmenter, Engine, EngineLimits, ModelInfo, RunError, Scorer};
use dog_iqa::event::ImageReference;
use dog_iqa::imaging::{self, Crop};
use dog_iqa::method::{self, LevelDistribution};
use dog_iqa::pipeline::{self, Journey, JourneyParts};
use dog_iqa::storage::{self, Stores, file_uri};
use image::RgbImage;

/// Rates mid-grey best, black and white worst.
struct Brightness;

impl Scorer for Brightness {
    type Input = Arc<RgbImage>;

    fn info(&self) -> ModelInfo {
        ModelInfo { name: "brightness".into(), version: "1".into(), weights: Vec::new() }
    }

    fn prepare(&self, crop: &Crop) -> Result<Arc<RgbImage>, RunError> {
        Ok(Arc::clone(&crop.pixels))
    }

    fn cost(crop: &Arc<RgbImage>) -> usize {
        crop.pixels().len()
    }

    fn rate(&self, batch: &[Arc<RgbImage>]) -> Result<Vec<LevelDistribution>, RunError> {
        batch.iter().map(|crop| rate_one(crop)).collect()
    }
}

fn rate_one(crop: &RgbImage) -> Result<LevelDistribution, RunError> {
    let samples = crop.as_raw();
    let sum: f64 = samples.iter().map(|&sample| f64::from(sample)).sum();
    let distance = (sum / samples.len() as f64 - 128.0).abs() / 128.0;
    let best_level = 7.0 - 6.0 * distance;
    let logits: Vec<f64> = (1..=7).map(|level| -(f64::from(level) - best_level).powi(2)).collect();
    LevelDistribution::from_logits(&logits)
        .map_err(|error| RunError::Batch(error.to_string().into()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: custom_scorer IMAGE")?;
    let uri = file_uri(path.as_ref());
    let mut storage = storage::Settings::default();
    storage.allow(&uri)?;

    let limits = EngineLimits::default();
    let engine = Engine::new("my-engine", "1", ClassicSegmenter::new(), Brightness, limits)?;
    let journey = Journey::new(JourneyParts {
        settings: pipeline::Settings::default(),
        imaging: imaging::Settings::default(),
        method: method::Settings::default(),
        stores: Stores::new(&storage)?,
        engine,
        measures: Vec::new(),
    })?;

    let runtime = tokio::runtime::Runtime::new()?;
    let event = runtime.block_on(journey.assess(ImageReference::new(uri), None))?;
    #[expect(clippy::print_stdout, reason = "the result of the example")]
    {
        println!("{}", serde_json::to_string_pretty(&event)?);
    }
    Ok(())
}
