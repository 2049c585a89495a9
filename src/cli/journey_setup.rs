//! Opens stores and engine as configured and builds the `Journey` over them.

use std::sync::Arc;

use anyhow::Context;
use bytesize::ByteSize;

use crate::cache::{AnswerCache, CacheError};
use crate::checkpoints::metrics::{LoadedParameters, load_all_parameters};
use crate::config::Settings;
use crate::engine::{self, Engine, EngineError, RecordedMasks};
use crate::method::Standard;
use crate::pipeline::{self, DuplicateSettings, Journey, JourneyParts};
use crate::storage::Stores;
use crate::stream::Shadow;

/// Maximum number of images in flight in a command. The budgets of the pipeline bound their memory.
pub(crate) const IN_FLIGHT_MAX: usize = 32;

/// Opens the stores and the engine, and reads the parameters of the metrics of
/// `pipeline.measures`. The latter two block, so they run on a blocking thread.
pub(crate) async fn open_journey(settings: &Settings) -> anyhow::Result<Journey> {
    open_with(settings, load_measures, Engine::open).await
}

/// Opens the stores, the engine and the configured cache.
pub(crate) async fn open_cached_journey(settings: &Settings) -> anyhow::Result<Journey> {
    let journey = open_journey(settings).await?;
    Ok(match open_cache(settings).await?.context("cache")? {
        Some(cache) => journey.with_cache(cache),
        None => journey,
    })
}

/// Opens the stores and the engine. The parameters of the metrics of `pipeline.measures` are read
/// already.
pub(crate) async fn open_journey_with_measures(
    settings: &Settings,
    measures: Vec<LoadedParameters>,
) -> anyhow::Result<Journey> {
    open_with(settings, |_| Ok(measures), Engine::open).await
}

/// Opens the second engine of `engine.shadow`, if there is one, over the stores of `journey`.
///
/// Its pipeline has room for one image of the largest size, or for several smaller ones. Its events
/// have no measures, duplicates and masks, which do not depend on the engine or are large.
pub(crate) async fn open_shadow(
    settings: &Settings,
    journey: &Journey,
) -> anyhow::Result<Option<Shadow>> {
    let Some(shadow) = &settings.engine.shadow else { return Ok(None) };
    anyhow::ensure!(
        settings.kafka.shadow_topic.is_some(),
        "engine.shadow has no topic for its events; set kafka.shadow_topic"
    );
    let stores = journey.parts().stores.clone();
    let pipeline = pipeline::Settings {
        bytes_budget: settings.pipeline.bytes_budget.min(ByteSize(stores.bytes_max())),
        pixels_budget: settings.pipeline.pixels_budget.min(settings.imaging.pixels_max),
        measures: Vec::new(),
        duplicates: DuplicateSettings::default(),
        masks_in_events: false,
        ..settings.pipeline.clone()
    };
    let of_shadow = Settings { engine: shadow.engine(), pipeline, ..settings.clone() };
    let opened = open_over(&of_shadow, stores, |_| Ok(Vec::new()), Engine::open).await;
    let journey = opened.context("opening engine.shadow")?;
    Ok(Some(Shadow { journey, share: shadow.share, images_max: shadow.images }))
}

/// Opens the configured cache, if there is one. Blocks for reads, so it runs on a blocking thread.
pub(crate) async fn open_cache(
    settings: &Settings,
) -> anyhow::Result<Result<Option<Arc<AnswerCache>>, CacheError>> {
    let settings = settings.cache.clone();
    let opened = tokio::task::spawn_blocking(move || AnswerCache::open(&settings)).await;
    Ok(opened.context("opening the cache")?.map(|cache| cache.map(Arc::new)))
}

/// Opens the stores and the scorer of the engine; the masks come from a record.
pub(crate) async fn open_journey_with_masks(
    settings: &Settings,
    masks: RecordedMasks,
) -> anyhow::Result<Journey> {
    let open = |engine: &engine::Settings, standard: &Standard| {
        Engine::open_with_masks(engine, standard, masks)
    };
    open_with(settings, load_measures, open).await
}

async fn open_with<M, O>(settings: &Settings, load: M, open: O) -> anyhow::Result<Journey>
where
    M: FnOnce(&pipeline::Settings) -> anyhow::Result<Vec<LoadedParameters>> + Send + 'static,
    O: FnOnce(&engine::Settings, &Standard) -> Result<Engine, EngineError> + Send + 'static,
{
    let stores = Stores::new(&settings.storage).context("storage")?;
    open_over(settings, stores, load, open).await
}

async fn open_over<M, O>(
    settings: &Settings,
    stores: Stores,
    load: M,
    open: O,
) -> anyhow::Result<Journey>
where
    M: FnOnce(&pipeline::Settings) -> anyhow::Result<Vec<LoadedParameters>> + Send + 'static,
    O: FnOnce(&engine::Settings, &Standard) -> Result<Engine, EngineError> + Send + 'static,
{
    let standard = Standard::from_settings(&settings.method.standard).context("method.standard")?;
    let (pipeline, engine) = (settings.pipeline.clone(), settings.engine.clone());
    let open = move || -> anyhow::Result<_> {
        let measures = load(&pipeline)?;
        Ok((measures, open(&engine, &standard).context("engine")?))
    };
    let opened = tokio::task::spawn_blocking(open).await.context("opening the engine")?;
    let (measures, engine) = opened?;
    let parts = JourneyParts {
        settings: settings.pipeline.clone(),
        imaging: settings.imaging.clone(),
        method: settings.method.clone(),
        stores,
        engine,
        measures: measures.into_iter().map(Arc::new).collect(),
    };
    // Its errors name the setting.
    Ok(Journey::new(parts)?)
}

fn load_measures(settings: &pipeline::Settings) -> anyhow::Result<Vec<LoadedParameters>> {
    let folder = settings.measure_parameters.as_deref();
    load_all_parameters(&settings.measures, folder).context("pipeline.measures")
}
