//! The lanes of an engine: one of its segmenter, and one of each scorer.
//!
//! Several scorers are behind one [`ModelLane`]: it asks those of the whole image or those of the
//! objects, and returns the weighted mean of their ratings.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use tokio::sync::watch;

use crate::engine::error::EngineError;
use crate::engine::info::{ModelInfo, ScorerShare};
use crate::engine::lane::{LaneError, RunError};
use crate::engine::model::{ScorerModel, SegmenterModel};
use crate::engine::model_lane::{ModelLane, ModelPlan};
use crate::engine::server::HttpScorer;
use crate::engine::traits::{Scorer, Segmenter};
use crate::imaging::{Crop, CropSource, Picture};
use crate::method::{LevelDistribution, RawMask, fingerprint, mean_rating, short};
use crate::priority::Priority;

/// Names of the scorers' lanes, in the order of the setting. Two ensembles have at most eight
/// scorers.
const SCORER_LANES: [&str; 8] =
    ["score", "score-2", "score-3", "score-4", "score-5", "score-6", "score-7", "score-8"];

type RatingLane = ModelLane<Crop, LevelDistribution>;

/// The models of an engine, each behind its lane.
#[derive(Debug, Clone)]
pub(crate) struct EngineLanes {
    pub(crate) segmenter: ModelLane<Picture, Vec<RawMask>>,
    pub(crate) scorer: RatingLane,
    /// Each of several scorers; empty if one rates everything.
    pub(crate) scorers: Vec<ScorerShare>,
    /// The server that rates, if one does.
    pub(crate) server: Option<Arc<HttpScorer>>,
    /// Turns false once, when any lane loses a device.
    pub(crate) healthy: watch::Receiver<bool>,
}

/// A plan for opening a scorer.
pub(crate) enum ScorerPlan<C: Scorer> {
    /// On devices of this process.
    Lane(ModelPlan<ScorerModel<C>>),
    /// On a server.
    Server(Arc<HttpScorer>),
}

/// A plan for opening a scorer, with its weights in the ratings.
pub(crate) struct SharedPlan<C: Scorer> {
    pub(crate) plan: ScorerPlan<C>,
    /// Weight in the ratings of the whole image, 0 if it does not rate that.
    pub(crate) global: f64,
    /// Weight in the ratings of the objects, 0 if it does not rate them.
    pub(crate) objects: f64,
}

impl<C: Scorer> SharedPlan<C> {
    /// Plans a scorer that rates everything alone.
    pub(crate) fn alone(plan: ScorerPlan<C>) -> Self {
        Self { plan, global: 1.0, objects: 1.0 }
    }
}

impl EngineLanes {
    /// Opens all models. Blocks until they are open on all devices.
    ///
    /// # Errors
    /// Fails if a model does not open, or the operating system refuses a thread.
    pub(crate) fn open<S: Segmenter, C: Scorer>(
        segmenter: ModelPlan<SegmenterModel<S>>,
        scorers: Vec<SharedPlan<C>>,
    ) -> Result<Self, EngineError> {
        let (health, healthy) = watch::channel(true);
        let segmenter = segmenter.open("segment", health.clone())?;
        let mut server = None;
        let mut opened = Vec::with_capacity(scorers.len());
        for (SharedPlan { plan, global, objects }, name) in scorers.into_iter().zip(SCORER_LANES) {
            let lane = match plan {
                ScorerPlan::Lane(plan) => plan.open(name, health.clone())?,
                ScorerPlan::Server(scorer) => {
                    let lane = of_server(&scorer);
                    server = Some(scorer);
                    lane
                }
            };
            opened.push(SharedLane { lane, global, objects });
        }
        if opened.len() == 1 {
            let scorer = opened.swap_remove(0).lane;
            return Ok(Self { segmenter, scorer, scorers: Vec::new(), server, healthy });
        }
        let scorers: Vec<ScorerShare> = opened.iter().map(SharedLane::share).collect();
        let scorer = of_several(&scorers, opened.into());
        Ok(Self { segmenter, scorer, scorers, server, healthy })
    }
}

/// Puts a server in the place of a lane. It has limits of its own, so that of `submit` does not
/// count: a slow server is no fault of a crop.
fn of_server(server: &Arc<HttpScorer>) -> RatingLane {
    let info = ModelInfo {
        name: server.model().to_owned(),
        version: server.version().to_owned(),
        weights: Vec::new(),
    };
    let server = Arc::clone(server);
    ModelLane::of(info, move |crop: Crop, _: Duration, priority| {
        let rating = Arc::clone(&server).rate(crop, priority);
        async move { rating.await.map_err(LaneError::from) }.boxed()
    })
}

/// One of several scorers behind its lane.
struct SharedLane {
    lane: RatingLane,
    global: f64,
    objects: f64,
}

impl SharedLane {
    fn weight(&self, source: CropSource) -> f64 {
        match source {
            CropSource::Whole => self.global,
            CropSource::Region(_) => self.objects,
        }
    }

    fn share(&self) -> ScorerShare {
        let Self { lane, global, objects } = self;
        ScorerShare { model: lane.info().clone(), global: *global, objects: *objects }
    }
}

/// Puts several scorers in the place of one.
fn of_several(shares: &[ScorerShare], lanes: Arc<[SharedLane]>) -> RatingLane {
    ModelLane::of(info_of_several(shares), move |crop, limit, priority| {
        rate(&lanes, &crop, limit, priority)
    })
}

/// Rates a crop by all scorers of its part at the same time. The first error ends the others.
fn rate(
    lanes: &[SharedLane],
    crop: &Crop,
    limit: Duration,
    priority: Priority,
) -> BoxFuture<'static, Result<LevelDistribution, LaneError>> {
    let asked = lanes.iter().filter(|scorer| scorer.weight(crop.source) > 0.0);
    let ratings = asked.map(|scorer| {
        let (lane, crop, weight) = (scorer.lane.clone(), crop.clone(), scorer.weight(crop.source));
        async move { Ok::<_, LaneError>((weight, lane.submit(crop, limit, priority).await?)) }
    });
    let ratings = try_join_all(ratings.collect::<Vec<_>>());
    async move {
        let mut ratings = ratings.await?;
        if ratings.len() == 1 {
            return Ok(ratings.swap_remove(0).1);
        }
        let mean = mean_rating(&ratings);
        mean.map_err(|error| RunError::Batch(error.to_string().into()).into())
    }
    .boxed()
}

/// Returns a name with all names and weights, and a version that changes with any of them.
fn info_of_several(shares: &[ScorerShare]) -> ModelInfo {
    let weights_of: [fn(&ScorerShare) -> f64; 2] = [|share| share.global, |share| share.objects];
    let [global, objects] = weights_of.map(|weight| {
        let named = shares.iter().filter_map(|share| match (weight(share), &share.model.name) {
            (0.0, _) => None,
            (1.0, name) => Some(name.clone()),
            (weight, name) => Some(format!("{weight}*{name}")),
        });
        named.collect::<Vec<_>>().join("+")
    });
    let name =
        if global == objects { global } else { format!("global={global},objects={objects}") };
    let weights = || shares.iter().flat_map(|share| &share.model.weights);
    let versions = shares.iter().map(|share| share.model.version.as_str());
    let digests = weights().map(|file| file.sha256.as_str());
    let version = short(&fingerprint(versions.chain(digests)));
    ModelInfo { name, version, weights: weights().cloned().collect() }
}
