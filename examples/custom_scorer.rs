//! A custom engine: the segmenter of `classic` with a scorer that measures only brightness.
//!
//! ```sh
//! cargo run --example custom_scorer -- examples/photos/cat.jpg
//! ```

use std::error::Error;
use std::sync::Arc;

use dog_iqa::engine::{
    ClassicSegmenter, Engine, EngineLimits, ModelInfo, RunError, Scorer, Segmenter,
};
use dog_iqa::event::ImageReference;
use dog_iqa::imaging::{self, Crop};
use dog_iqa::method::{self, LevelDistribution};
use dog_iqa::models::ModelInput;
use dog_iqa::pipeline::{self, Journey, JourneyParts};
use dog_iqa::storage::{self, Stores, file_uri};

/// Rates mid-grey best, black and white worst.
struct Brightness;

impl Scorer for Brightness {
    fn info(&self) -> ModelInfo {
        ModelInfo { name: "brightness".into(), version: "1".into(), weights: Vec::new() }
    }

    fn prepare(&self, crop: &Crop) -> Result<ModelInput, RunError> {
        let (width, height) = crop.pixels.dimensions();
        Ok(ModelInput::new(Arc::clone(&crop.pixels), (width, height), 1))
    }

    fn rate(&self, batch: &[ModelInput]) -> Result<Vec<LevelDistribution>, RunError> {
        let rate_one = |input: &ModelInput| {
            let values = input.pixels().as_raw();
            let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
            let distance = (sum / values.len() as f64 - 128.0).abs() / 128.0;
            let logits: Vec<f64> =
                (1..=7).map(|level| -(f64::from(level) - 7.0 + 6.0 * distance).powi(2)).collect();
            LevelDistribution::from_logits(&logits)
                .map_err(|error| RunError::Batch(error.to_string().into()))
        };
        batch.iter().map(rate_one).collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: custom_scorer IMAGE")?;
    let uri = file_uri(path.as_ref());
    let mut storage = storage::Settings::default();
    storage.allow(&uri)?;

    let segmenter: Arc<dyn Segmenter> = Arc::new(ClassicSegmenter::new());
    let engine =
        Engine::new("my-engine", "1", segmenter, Arc::new(Brightness), EngineLimits::default())?;
    let journey = Journey::new(JourneyParts {
        settings: pipeline::Settings::default(),
        imaging: imaging::Settings::default(),
        method: method::Settings::default(),
        stores: Stores::new(&storage)?,
        engine,
    })?;

    let runtime = tokio::runtime::Runtime::new()?;
    let event = runtime.block_on(journey.assess(ImageReference::new(uri), None))?;
    #[expect(clippy::print_stdout, reason = "the result of the example")]
    {
        println!("{}", serde_json::to_string_pretty(&event)?);
    }
    Ok(())
}
