//! The engine as the rest of the service sees it: pictures in, masks and levels out.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::engine::classic::{self, ClassicScorer, ClassicSegmenter};
use crate::engine::dog_iqa::{self, DogIqa};
use crate::engine::lane::{Lane, LaneError, LaneSpec, Limits, RunError};
use crate::engine::settings::Settings;
use crate::engine::traits::{ModelInfo, Scorer, Segmenter};
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, RawMask, Standard};
use crate::models::ModelInput;

/// Why an engine did not open, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The operating system refused a thread.
    #[error("the engine's thread did not start: {0}")]
    Start(#[from] io::Error),
    /// The engine needs weights, and none are named.
    #[error(
        "engine.dog_iqa.{key} names no weights; set it to a file or folder, or engine.name = \"classic\""
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
    /// This picture could not be segmented; others can.
    #[error("segmentation failed: {0}")]
    Segment(Arc<str>),
    /// This crop could not be rated; others can.
    #[error("scoring failed: {0}")]
    Score(Arc<str>),
    /// The device is gone: nothing will be answered any more.
    #[error("the engine is lost: {0}")]
    Lost(String),
}

impl EngineError {
    /// The stable name in dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Start(_) => "engine.start_failed",
            Self::NoWeights { .. } | Self::Weights { .. } => "engine.weights_failed",
            Self::Segment(_) => "segment.failed",
            Self::Score(_) => "score.failed",
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
        Self { segment: (&settings.segment).into(), score: (&settings.score).into() }
    }
}

/// A segmenter and a scorer, each behind its lane. Clones share them; the threads end with the
/// last one.
#[derive(Clone)]
pub struct Engine {
    info: Arc<EngineInfo>,
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
    /// Opens the configured engine, to rate on the levels of `standard`.
    ///
    /// # Errors
    /// Weights that cannot be used, or a thread that does not start.
    pub fn open(settings: &Settings, standard: &Standard) -> Result<Self, EngineError> {
        if settings.is_dog_iqa() {
            let DogIqa { version, segmenter, scorer } = dog_iqa::open(&settings.dog_iqa, standard)?;
            return Self::new(dog_iqa::NAME, &version, segmenter, scorer, settings.into());
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
        let (health, healthy) = watch::channel(true);
        let spec = |lane, limits| LaneSpec {
            name: lane,
            limits,
            cost: ModelInput::cost,
            health: health.clone(),
        };
        let (model, spec_segment) = (Arc::clone(&segmenter), spec("segment", limits.segment));
        let segment = Lane::spawn(spec_segment, move || {
            Ok::<_, EngineError>(Box::new(move |batch: &[ModelInput]| model.segment(batch)))
        })?;
        let (model, spec_score) = (Arc::clone(&scorer), spec("score", limits.score));
        let score = Lane::spawn(spec_score, move || {
            Ok::<_, EngineError>(Box::new(move |batch: &[ModelInput]| model.rate(batch)))
        })?;
        let info = Arc::new(EngineInfo {
            name: name.to_owned(),
            version: version.to_owned(),
            segmenter: segmenter.info(),
            scorer: scorer.info(),
        });
        Ok(Self { info, segmenter, scorer, segment, score, healthy })
    }

    /// The picture's masks. Dropping the future withdraws the picture.
    ///
    /// # Errors
    /// [`EngineError::Segment`] for this picture alone, [`EngineError::Lost`] for all that follow.
    pub async fn segment(&self, picture: &Picture) -> Result<Vec<RawMask>, EngineError> {
        let (segmenter, picture) = (Arc::clone(&self.segmenter), picture.clone());
        let prepared = spawn_blocking(move || segmenter.prepare(&picture)).await;
        let input = prepared.unwrap_or_else(|_| Err(preparation_panicked()));
        let input = input.map_err(|error| failed(error.into(), EngineError::Segment))?;
        self.segment.submit(input).await.map_err(|error| failed(error, EngineError::Segment))
    }

    /// The crop's levels. Dropping the future withdraws the crop.
    ///
    /// # Errors
    /// [`EngineError::Score`] for this crop alone, [`EngineError::Lost`] for all that follow.
    pub async fn rate(&self, crop: Crop) -> Result<LevelDistribution, EngineError> {
        let scorer = Arc::clone(&self.scorer);
        let prepared = spawn_blocking(move || scorer.prepare(&crop)).await;
        let input = prepared.unwrap_or_else(|_| Err(preparation_panicked()));
        let input = input.map_err(|error| failed(error.into(), EngineError::Score))?;
        self.score.submit(input).await.map_err(|error| failed(error, EngineError::Score))
    }

    /// Name, version and models.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Turns false once, when a lane has lost its device; the worker then leaves and restarts.
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.healthy.clone()
    }
}

fn preparation_panicked() -> RunError {
    RunError::Batch("the model's preparation panicked".into())
}

fn failed(error: LaneError, this_input: fn(Arc<str>) -> EngineError) -> EngineError {
    match error {
        LaneError::Run(RunError::Batch(message)) => this_input(message),
        LaneError::Run(RunError::Device(message)) => EngineError::Lost(message.to_string()),
        LaneError::Closed(_) => EngineError::Lost(error.to_string()),
    }
}
