//! The engine as the pipeline uses it: pictures in, masks and levels out.

use std::collections::BTreeMap;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::adapters::classic::{self, ClassicScorer, ClassicSegmenter};
use crate::engine::adapters::recorded::RecordedMasks;
use crate::engine::dog_iqa_plan::{self, DogIqaPlan, SegmenterPlan};
use crate::engine::engine_lanes::{EngineLanes, ScorerPlan, SharedPlan};
use crate::engine::error::EngineError;
use crate::engine::info::{EngineInfo, ModelInfo, NetworkSettings};
use crate::engine::lane::{LaneDevice, LaneError, RunError};
use crate::engine::model::{Model, ScorerModel, SegmenterModel};
use crate::engine::model_lane::ModelPlan;
use crate::engine::server::HttpScorer;
use crate::engine::settings::{EngineLimits, LaneLimits, Settings};
use crate::engine::traits::{Scorer, Segmenter};
use crate::engine::warm_up::PeakMemory;
use crate::imaging::{Crop, Picture};
use crate::method::{LevelDistribution, RawMask, Standard};
use crate::priority::Priority;

/// Device label in metrics of models that the caller of [`Engine::new`] has opened.
const CALLERS_DEVICE: &str = "own";
/// Working memory assumed for models without weights: `classic` uses some planes of a quarter of a
/// megapixel.
const WORKING_BYTES: u64 = 64 << 20;

/// A segmenter and its scorers, each behind its lane. Clones share them; the threads end with the
/// last one.
#[derive(Debug, Clone)]
pub struct Engine {
    info: Arc<EngineInfo>,
    memory: u64,
    lanes: EngineLanes,
    priority: Priority,
    not_numbers: Arc<Once>,
}

impl Engine {
    /// Opens the configured engine, which rates on the levels of `standard`. Blocks until its
    /// models are open.
    ///
    /// # Errors
    /// Fails if weights or a device cannot be used, or a thread does not start.
    pub fn open(settings: &Settings, standard: &Standard) -> Result<Self, EngineError> {
        if settings.is_dog_iqa() {
            let plan = DogIqaPlan::new(settings, standard)?;
            let DogIqaPlan { segmenter, scorers, scorer_settings, memory } = plan;
            let lanes = match segmenter {
                SegmenterPlan::Sam2(plan) => EngineLanes::open(plan, scorers)?,
                SegmenterPlan::Classic => {
                    let limits = EngineLimits::on_cpu(settings).segment;
                    let plan = plan_of(SegmenterModel(ClassicSegmenter::new()), limits);
                    EngineLanes::open(plan, scorers)?
                }
            };
            return Self::dog_iqa(settings, lanes, scorer_settings, memory);
        }
        Self::classic(settings, standard, ClassicSegmenter::new())
    }

    /// Opens the scorer of the configured engine, and takes the masks from a record. Rates the same
    /// regions by another standard or other crops without segmenting again.
    ///
    /// # Errors
    /// Fails like [`open`](Self::open).
    pub fn open_with_masks(
        settings: &Settings,
        standard: &Standard,
        masks: RecordedMasks,
    ) -> Result<Self, EngineError> {
        if settings.is_dog_iqa() {
            let plan = DogIqaPlan::new(settings, standard)?;
            let DogIqaPlan { scorers, scorer_settings, memory, .. } = plan;
            let segmenter = plan_of(SegmenterModel(masks), EngineLimits::on_cpu(settings).segment);
            let lanes = EngineLanes::open(segmenter, scorers)?;
            return Self::dog_iqa(settings, lanes, scorer_settings, memory);
        }
        Self::classic(settings, standard, masks)
    }

    fn dog_iqa(
        settings: &Settings,
        lanes: EngineLanes,
        scorer_settings: NetworkSettings,
        memory: u64,
    ) -> Result<Self, EngineError> {
        let (segmenter, scorer) = (lanes.segmenter.info(), lanes.scorer.info());
        let scorers: Vec<&ModelInfo> = if lanes.scorers.is_empty() {
            vec![scorer]
        } else {
            lanes.scorers.iter().map(|share| &share.model).collect()
        };
        dog_iqa_plan::check_files(&settings.dog_iqa, segmenter, &scorers)?;
        let version = dog_iqa_plan::version(segmenter, scorer);
        let info = EngineInfo {
            name: dog_iqa_plan::NAME.to_owned(),
            version,
            segmenter: segmenter.clone(),
            scorer: scorer.clone(),
            scorers: lanes.scorers.clone(),
            scorer_settings,
            changed_settings: settings.dog_iqa.changed(),
        };
        Ok(Self::of_lanes(info, memory, lanes))
    }

    fn classic(
        settings: &Settings,
        standard: &Standard,
        segmenter: impl Segmenter,
    ) -> Result<Self, EngineError> {
        let ignored = settings.dog_iqa.changed();
        if !ignored.is_empty() {
            let settings: Vec<&String> = ignored.keys().collect();
            tracing::warn!(?settings, "the classic engine ignores the settings of engine.dog_iqa");
        }
        Self::new(
            classic::NAME,
            classic::VERSION,
            segmenter,
            ClassicScorer::new(standard.k()),
            EngineLimits::on_cpu(settings),
        )
    }

    /// Builds an engine from custom models. Every event contains `name` and `version`.
    ///
    /// # Errors
    /// Fails if a thread does not start.
    pub fn new(
        name: &str,
        version: &str,
        segmenter: impl Segmenter,
        scorer: impl Scorer,
        limits: EngineLimits,
    ) -> Result<Self, EngineError> {
        let lanes = EngineLanes::open(
            plan_of(SegmenterModel(segmenter), limits.segment),
            vec![SharedPlan::alone(ScorerPlan::Lane(plan_of(ScorerModel(scorer), limits.score)))],
        )?;
        let info = EngineInfo {
            name: name.to_owned(),
            version: version.to_owned(),
            segmenter: lanes.segmenter.info().clone(),
            scorer: lanes.scorer.info().clone(),
            scorers: Vec::new(),
            scorer_settings: NetworkSettings::default(),
            changed_settings: BTreeMap::new(),
        };
        Ok(Self::of_lanes(info, WORKING_BYTES, lanes))
    }

    fn of_lanes(info: EngineInfo, memory: u64, lanes: EngineLanes) -> Self {
        Self {
            info: Arc::new(info),
            memory,
            lanes,
            priority: Priority::default(),
            not_numbers: Arc::new(Once::new()),
        }
    }

    /// Returns the same engine for inputs of this priority.
    #[must_use]
    pub(crate) fn with_priority(&self, priority: Priority) -> Self {
        Self { priority, ..self.clone() }
    }

    /// Returns the masks of a picture. The device may take `limit` for the batch that contains it;
    /// time in the queue does not count. Dropping the future withdraws the picture.
    ///
    /// # Errors
    /// [`EngineError::Segment`] and [`EngineError::SegmentTimeout`] concern this picture only.
    /// After [`EngineError::Lost`] every later call fails.
    pub async fn segment(
        &self,
        picture: &Picture,
        limit: Duration,
    ) -> Result<Vec<RawMask>, EngineError> {
        let masks = self.lanes.segmenter.submit(picture.clone(), limit, self.priority).await;
        masks.map_err(|error| {
            self.explain_once(&error);
            EngineError::from_segmenter(error)
        })
    }

    /// Returns the level distribution of a crop, with `limit` as in [`segment`](Self::segment).
    /// Dropping the future withdraws the crop.
    ///
    /// # Errors
    /// [`EngineError::Score`] and [`EngineError::ScoreTimeout`] concern this crop only, and
    /// [`EngineError::Server`] says whether it does. After [`EngineError::Lost`] every later call
    /// fails.
    pub async fn rate(
        &self,
        crop: Crop,
        limit: Duration,
    ) -> Result<LevelDistribution, EngineError> {
        self.lanes.scorer.submit(crop, limit, self.priority).await.map_err(|error| {
            self.explain_once(&error);
            EngineError::from_scorer(error)
        })
    }

    /// Logs the cure for the first output that is not a number. The error of each image only names
    /// the output.
    fn explain_once(&self, error: &LaneError) {
        if let LaneError::Run(RunError::NotNumbers(message)) = error {
            self.not_numbers.call_once(|| {
                tracing::warn!(
                    %message,
                    "images fail because the network's output is not a number; if \
                     engine.dog_iqa.dtype is f16, the values are too large for it: set bf16 or \
                     f32; otherwise the weights are damaged: see `dogiqa models verify`"
                );
            });
        }
    }

    /// Returns the server that rates, alone or as one of several scorers, if one does.
    pub fn server(&self) -> Option<&Arc<HttpScorer>> {
        self.lanes.server.as_ref()
    }

    /// Returns name, version and models.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Returns an upper bound of the machine's memory that the models use, in bytes. Memory of
    /// custom models is not known and not included.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns a channel that turns false once, when a lane has lost its device. The worker then
    /// ends, to be restarted.
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.lanes.healthy.clone()
    }
}

/// Plans a model that the caller has opened already.
fn plan_of<M: Model>(model: M, limits: LaneLimits) -> ModelPlan<M> {
    let device = LaneDevice::new(CALLERS_DEVICE, || Ok(model));
    ModelPlan { limits, devices: vec![(device, PeakMemory::default())], warm_up: Vec::new() }
}
