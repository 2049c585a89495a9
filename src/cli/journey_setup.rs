//! Opens stores and engine as configured and builds the `Journey` over them.

use anyhow::Context;

use crate::config::Settings;
use crate::engine::{self, Engine, EngineError, RecordedMasks};
use crate::method::Standard;
use crate::pipeline::{Journey, JourneyParts};
use crate::storage::Stores;

/// Maximum number of images in flight in a command. The budgets of the pipeline bound their memory.
pub(crate) const IN_FLIGHT_MAX: usize = 32;

/// Opens the stores and the engine. Opening the engine blocks, so it runs on a blocking thread.
pub(crate) async fn open_journey(settings: &Settings) -> anyhow::Result<Journey> {
    open_with(settings, Engine::open).await
}

/// Opens the stores and the scorer of the engine; the masks come from a record.
pub(crate) async fn open_journey_with_masks(
    settings: &Settings,
    masks: RecordedMasks,
) -> anyhow::Result<Journey> {
    open_with(settings, |engine, standard| Engine::open_with_masks(engine, standard, masks)).await
}

async fn open_with<O>(settings: &Settings, open: O) -> anyhow::Result<Journey>
where
    O: FnOnce(&engine::Settings, &Standard) -> Result<Engine, EngineError> + Send + 'static,
{
    let stores = Stores::new(&settings.storage).context("storage")?;
    let standard = Standard::from_settings(&settings.method.standard).context("method.standard")?;
    let engine_settings = settings.engine.clone();
    let open = move || open(&engine_settings, &standard);
    let engine = tokio::task::spawn_blocking(open).await.context("opening the engine")?;
    let parts = JourneyParts {
        settings: settings.pipeline.clone(),
        imaging: settings.imaging.clone(),
        method: settings.method.clone(),
        stores,
        engine: engine.context("engine")?,
    };
    Journey::new(parts).context("method")
}
