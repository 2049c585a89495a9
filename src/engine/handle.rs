//! The engine as the rest of the service sees it: pictures in, masks and levels out.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::engine::classic::{self, ClassicScorer, ClassicSegmenter};
use crate::engine::dog_iqa;
use crate::engine::lane::{Lane, LaneError, LaneSpec, Opener, Ready, Run, RunError};
use crate::engine::memory::TooLittleMemory;
use crate::engine::settings::Settings;
use crate::engine::traits::{ModelInfo, Scorer, Segmenter};
use crate::engine::warm_up::warm_up;
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, RawMask, Standard};
use crate::models::ModelInput;
use crate::models::device::{DeviceError, DeviceId as Place};

/// What metrics call the device of models that were opened elsewhere.
const DEVICE_OWN: &str = "own";
/// What models without weights take while they run: those of `classic` some planes of a quarter of a megapixel.
const MEMORY_OWN: u64 = 64 << 20;

/// Why an engine did not open, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The operating system refused a thread.
    #[error("the engine's thread did not start: {0}")]
    Start(#[from] io::Error),
    /// The engine needs weights, and none are named.
    #[error(
        "engine.dog_iqa.{key} names no model; set it to a preset (`dogiqa models list`), a file or a folder, \
         or engine.name = \"classic\""
    )]
    NoWeights {
        /// The setting.
        key: &'static str,
    },
    /// Weights that cannot be used.
    #[error("engine.dog_iqa.{key}: {message}")]
    Weights {
        /// The setting that names them.
        key: &'static str,
        /// What is wrong, with the file.
        message: String,
    },
    /// A device that cannot be used.
    #[error("engine.dog_iqa.device: {0}")]
    Device(#[from] DeviceError),
    /// The device cannot hold the models.
    #[error("engine.dog_iqa: {0}")]
    Memory(#[from] TooLittleMemory),
    /// The device cannot run even one input.
    #[error(
        "engine.dog_iqa: not even a batch of one passes: {0}; choose smaller models, another device, or \
         warm_up = \"never\" to find out later"
    )]
    WarmUp(RunError),
    /// This picture could not be segmented; others can.
    #[error("segmentation failed: {0}")]
    Segment(Arc<str>),
    /// This crop could not be rated; others can.
    #[error("scoring failed: {0}")]
    Score(Arc<str>),
    /// The device had this picture's batch for too long.
    #[error(
        "the device did not segment it within {0:?}; raise pipeline.segment.timeout or lower \
         engine.segment.batch_pixels"
    )]
    SegmentTimeout(Duration),
    /// The device had this crop's batch for too long.
    #[error(
        "the device did not rate it within {0:?}; raise pipeline.score.timeout or lower engine.score.batch_pixels"
    )]
    ScoreTimeout(Duration),
    /// The device is gone: nothing will be answered any more.
    #[error("the engine is lost: {0}")]
    Lost(String),
}

impl EngineError {
    /// The stable name in dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Start(_) | Self::WarmUp(_) => "engine.start_failed",
            Self::Device(_) => "engine.no_device",
            Self::Memory(_) => "engine.too_little_memory",
            Self::NoWeights { .. } | Self::Weights { .. } => "engine.weights_failed",
            Self::Segment(_) => "segment.failed",
            Self::Score(_) => "score.failed",
            Self::SegmentTimeout(_) => "segment.timeout",
            Self::ScoreTimeout(_) => "score.timeout",
            Self::Lost(_) => "engine.lost",
        }
    }
}

/// Who answers: every event carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Name of the engine.
    pub name: String,
    /// Changes whenever the same picture may get another answer.
    pub version: String,
    /// The segmenter in it.
    pub segmenter: ModelInfo,
    /// The scorer in it.
    pub scorer: ModelInfo,
}

/// Sizes of a lane, in the unit of its models' cost: pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Inputs that may wait before the asker waits too: this bounds memory. At least 1.
    pub queue: usize,
    /// Summed cost of one batch. An input dearer than this runs alone.
    pub batch_cost: usize,
}

/// Sizes of both lanes.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits {
    /// Queue and batches of the segmenter.
    pub segment: Limits,
    /// Queue and batches of the scorer.
    pub score: Limits,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

impl From<&Settings> for EngineLimits {
    fn from(settings: &Settings) -> Self {
        let Settings { segment, score, .. } = settings;
        Self { segment: segment.limits_on(Place::Cpu), score: score.limits_on(Place::Cpu) }
    }
}

/// Opens a model on the thread that will run it.
pub(super) type Open<M> = Box<dyn FnOnce() -> Result<Arc<M>, EngineError> + Send>;

/// Makes an input of a model.
pub(super) type Sample<M> = fn(&M) -> Result<ModelInput, EngineError>;

/// Runs a model on a batch.
type Batch<M, O> = fn(&M, &[ModelInput]) -> Result<Vec<O>, RunError>;

/// What a model says of itself.
type Info<M> = fn(&M) -> ModelInfo;

/// One of the two stages, before it is opened.
pub(super) struct Stage<M: ?Sized> {
    pub(super) limits: Limits,
    /// For each device its name, and what opens the model there.
    pub(super) models: Vec<(String, Open<M>)>,
    /// The dearest input, if the largest batch is to be run at the start.
    pub(super) largest: Option<Sample<M>>,
}

/// The engine's version, from what was opened.
type Version = Box<dyn FnOnce([&ModelInfo; 2]) -> Result<String, EngineError>>;

/// An engine before it is opened.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) segment: Stage<dyn Segmenter>,
    pub(super) score: Stage<dyn Scorer>,
    pub(super) version: Version,
    /// Bytes that the models take of the machine's memory at the most.
    pub(super) memory: u64,
}

/// A segmenter and a scorer, each behind its lane. Clones share them; the threads end with the
/// last one.
#[derive(Clone)]
pub struct Engine {
    info: Arc<EngineInfo>,
    memory: u64,
    segmenter: Arc<dyn Segmenter>,
    scorer: Arc<dyn Scorer>,
    segment: Lane<ModelInput, Vec<RawMask>>,
    score: Lane<ModelInput, LevelDistribution>,
    healthy: watch::Receiver<bool>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the configured engine, to rate on the levels of `standard`. Blocks while models open.
    ///
    /// # Errors
    /// Weights or a device that cannot be used, or a thread that does not start.
    pub fn open(settings: &Settings, standard: &Standard) -> Result<Self, EngineError> {
        if settings.is_dog_iqa() {
            return Self::assemble(dog_iqa::parts(settings, standard)?);
        }
        Self::new(
            classic::NAME,
            classic::VERSION,
            Arc::new(ClassicSegmenter::new()),
            Arc::new(ClassicScorer::new(standard.k())),
            settings.into(),
        )
    }

    /// An engine of one's own models; name and version stand in every event.
    ///
    /// # Errors
    /// When a thread does not start.
    pub fn new(
        name: &str,
        version: &str,
        segmenter: Arc<dyn Segmenter>,
        scorer: Arc<dyn Scorer>,
        limits: EngineLimits,
    ) -> Result<Self, EngineError> {
        let version = version.to_owned();
        let open_segmenter: Open<dyn Segmenter> = Box::new(|| Ok(segmenter));
        let open_scorer: Open<dyn Scorer> = Box::new(|| Ok(scorer));
        let own = || DEVICE_OWN.to_owned();
        Self::assemble(Parts {
            name: name.to_owned(),
            segment: Stage {
                limits: limits.segment,
                models: vec![(own(), open_segmenter)],
                largest: None,
            },
            score: Stage {
                limits: limits.score,
                models: vec![(own(), open_scorer)],
                largest: None,
            },
            version: Box::new(|_| Ok(version)),
            memory: MEMORY_OWN,
        })
    }

    fn assemble(parts: Parts) -> Result<Self, EngineError> {
        let Parts { name, segment, score, version, memory } = parts;
        let (health, healthy) = watch::channel(true);
        let (segment, segmenter) =
            lane(("segment", health.clone()), segment, (Segmenter::segment, Segmenter::info))?;
        let (score, scorer) = lane(("score", health), score, (Scorer::rate, Scorer::info))?;
        let (segmenter_info, scorer_info) = (segmenter.info(), scorer.info());
        let info = Arc::new(EngineInfo {
            name,
            version: version([&segmenter_info, &scorer_info])?,
            segmenter: segmenter_info,
            scorer: scorer_info,
        });
        Ok(Self { info, memory, segmenter, scorer, segment, score, healthy })
    }

    /// The picture's masks, for which the device may take `limit`; the pictures of one batch share it, and waiting
    /// does not count. Dropping the future withdraws the picture.
    ///
    /// # Errors
    /// [`EngineError::Segment`] and [`EngineError::SegmentTimeout`] for this picture alone, [`EngineError::Lost`]
    /// for all that follow.
    pub async fn segment(
        &self,
        picture: &Picture,
        limit: Duration,
    ) -> Result<Vec<RawMask>, EngineError> {
        let (segmenter, picture) = (Arc::clone(&self.segmenter), picture.clone());
        let prepared = timeout(limit, spawn_blocking(move || segmenter.prepare(&picture))).await;
        let prepared = prepared.map_err(|_| EngineError::SegmentTimeout(limit))?;
        let input = prepared.unwrap_or_else(|_| Err(preparation_panicked()));
        let why = (EngineError::Segment as Why<_>, EngineError::SegmentTimeout as Why<_>);
        let input = input.map_err(|error| failed(error.into(), why))?;
        self.segment.submit_within(input, limit).await.map_err(|error| failed(error, why))
    }

    /// The crop's levels, for which the device may take `limit`, as in [`segment`](Self::segment). Dropping the
    /// future withdraws the crop.
    ///
    /// # Errors
    /// [`EngineError::Score`] and [`EngineError::ScoreTimeout`] for this crop alone, [`EngineError::Lost`] for all
    /// that follow.
    pub async fn rate(
        &self,
        crop: Crop,
        limit: Duration,
    ) -> Result<LevelDistribution, EngineError> {
        let scorer = Arc::clone(&self.scorer);
        let prepared = timeout(limit, spawn_blocking(move || scorer.prepare(&crop))).await;
        let prepared = prepared.map_err(|_| EngineError::ScoreTimeout(limit))?;
        let input = prepared.unwrap_or_else(|_| Err(preparation_panicked()));
        let why = (EngineError::Score as Why<_>, EngineError::ScoreTimeout as Why<_>);
        let input = input.map_err(|error| failed(error.into(), why))?;
        self.score.submit_within(input, limit).await.map_err(|error| failed(error, why))
    }

    /// Name, version and models.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Bytes that the models take of the machine's own memory at the most, as far as the engine knows them.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Turns false once, when a lane has lost its device; the worker then leaves and restarts.
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.healthy.clone()
    }
}

/// Opens a stage: a lane with a thread for each device, and the model that prepares its inputs.
fn lane<M: ?Sized + Send + Sync + 'static, O: Send + 'static>(
    (name, health): (&'static str, watch::Sender<bool>),
    stage: Stage<M>,
    (run, info): (Batch<M, O>, Info<M>),
) -> Result<(Lane<ModelInput, O>, Arc<M>), EngineError> {
    let Stage { limits: Limits { queue, batch_cost }, models, largest } = stage;
    let opener = |(device, open): (String, Open<M>)| -> Opener<_, _, _, EngineError> {
        let on_device = move || {
            let model = open()?;
            let runner = Arc::clone(&model);
            let mut run: Run<ModelInput, O> = Box::new(move |batch| run(&runner, batch));
            let batch_cost = match largest {
                None => batch_cost,
                Some(largest) => {
                    let input = largest(&model)?;
                    warm_up(&mut run, (&input, input.cost()), batch_cost)
                        .map_err(EngineError::WarmUp)?
                }
            };
            Ok(Ready { run, model, batch_cost })
        };
        (device, Box::new(on_device))
    };
    let spec = LaneSpec { name, queue, cost: ModelInput::cost, health };
    let (lane, mut models) = Lane::spawn(spec, models.into_iter().map(opener).collect())?;
    // Each device reads the files for itself; events name them once.
    let first = info(&models[0]);
    if models.iter().any(|model| info(model) != first) {
        let message = format!("the files of {} changed while they were opened", first.name);
        return Err(EngineError::Weights { key: name, message });
    }
    Ok((lane, models.swap_remove(0)))
}

fn preparation_panicked() -> RunError {
    RunError::Batch("the model's preparation panicked".into())
}

/// Makes the error of one of the two stages.
type Why<T> = fn(T) -> EngineError;

fn failed(error: LaneError, (fails, overruns): (Why<Arc<str>>, Why<Duration>)) -> EngineError {
    match error {
        LaneError::Run(RunError::Batch(message)) => fails(message),
        LaneError::Overran(limit) => overruns(limit),
        LaneError::Run(RunError::Device(message)) => EngineError::Lost(message.to_string()),
        LaneError::Closed(_) => EngineError::Lost(error.to_string()),
    }
}
