//! From settings to the parts that run.

use anyhow::Context;

use crate::config::Settings;
use crate::engine::Engine;
use crate::method::Standard;
use crate::pipeline::{Journey, JourneyParts};
use crate::storage::Stores;

/// Opens stores and engine and joins them to the road. Blocks while the engine opens, so it is done
/// on a thread of its own.
pub(super) async fn journey(settings: &Settings) -> anyhow::Result<Journey> {
    let stores = Stores::new(&settings.storage).context("storage")?;
    journey_from(settings, stores).await
}

/// The same over stores that are there already.
pub(super) async fn journey_from(settings: &Settings, stores: Stores) -> anyhow::Result<Journey> {
    let standard = Standard::from_settings(&settings.method.standard).context("method.standard")?;
    let engine_settings = settings.engine.clone();
    let open = move || Engine::open(&engine_settings, &standard);
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
