//! A model behind its lane: opens it on its devices, then prepares and submits its inputs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::engine::error::EngineError;
use crate::engine::info::ModelInfo;
use crate::engine::lane::{Lane, LaneDevice, LaneError, LaneSpec, OpenedModel, RunError};
use crate::engine::model::Model;
use crate::engine::settings::LaneLimits;
use crate::engine::warm_up::{MakeSource, PeakMemory, warm_up};
use crate::priority::Priority;

/// A plan for opening one model, on one device or on several.
pub(crate) struct ModelPlan<M: Model> {
    pub(crate) limits: LaneLimits,
    /// Each device, with the memory that the lanes on it take.
    pub(crate) devices: Vec<(LaneDevice<M, EngineError>, PeakMemory)>,
    /// Sources of which the most expensive one fills the warm-up batch; empty for no warm-up.
    pub(crate) warm_up: Vec<MakeSource<M::Source>>,
}

impl<M: Model> ModelPlan<M> {
    /// Opens the model on each device. Blocks until all are open.
    pub(crate) fn open(
        self,
        lane_name: &'static str,
        health: watch::Sender<bool>,
    ) -> Result<ModelLane<M::Source, M::Output>, EngineError> {
        let Self { limits, devices, warm_up: sources } = self;
        let open_and_warm_up = |(device, peak): (LaneDevice<M, EngineError>, PeakMemory)| {
            let sources = sources.clone();
            device.opened_by(move |open| {
                // One lane of a device at a time, so that each measures only its own memory.
                let mut of_lanes = peak.lock();
                let mut model = open()?;
                let batch_cost = warm_up(&mut model, &sources, limits.batch_cost, &mut of_lanes)?;
                let model = Arc::new(model);
                let on_device = Arc::clone(&model);
                let run = Box::new(move |batch: &[M::Input]| on_device.run(batch));
                Ok(OpenedModel { run, batch_cost, returned: model })
            })
        };
        let devices = devices.into_iter().map(open_and_warm_up).collect();
        let spec = LaneSpec { name: lane_name, queue: limits.queue, cost: M::cost, health };
        let (lane, mut models) = Lane::spawn(spec, devices)?;
        let model = models.swap_remove(0);
        // Each device reads the files itself, but events name them once.
        let info = model.info();
        if models.iter().any(|other| other.info() != info) {
            let message = format!("the files of {} changed while they were opened", info.name);
            return Err(EngineError::Weights { key: lane_name, message });
        }
        Ok(ModelLane::new(model, lane, info))
    }
}

/// A model behind its lane. The type of its prepared input is erased here, so that an engine of any
/// models is one type. Clones share the lane; its threads end with the last one.
pub(crate) struct ModelLane<S, O> {
    info: Arc<ModelInfo>,
    submit: Arc<SubmitFn<S, O>>,
}

type SubmitFn<S, O> =
    dyn Fn(S, Duration, Priority) -> BoxFuture<'static, Result<O, LaneError>> + Send + Sync;

impl<S, O> Clone for ModelLane<S, O> {
    fn clone(&self) -> Self {
        Self { info: Arc::clone(&self.info), submit: Arc::clone(&self.submit) }
    }
}

impl<S, O> fmt::Debug for ModelLane<S, O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ModelLane").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<S: Send + 'static, O: Send + 'static> ModelLane<S, O> {
    fn new<M: Model<Source = S, Output = O>>(
        model: Arc<M>,
        lane: Lane<M::Input, O>,
        info: ModelInfo,
    ) -> Self {
        Self::of(info, move |source: S, limit, priority| {
            let lane = lane.with_priority(priority);
            prepare_and_submit(Arc::clone(&model), lane, source, limit).boxed()
        })
    }

    /// Puts a function in the place of a lane.
    pub(crate) fn of<F>(info: ModelInfo, submit: F) -> Self
    where
        F: Fn(S, Duration, Priority) -> BoxFuture<'static, Result<O, LaneError>>
            + Send
            + Sync
            + 'static,
    {
        Self { info: Arc::new(info), submit: Arc::new(submit) }
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Prepares a source on a CPU thread, then runs the model on it. Each step may take `limit`.
    /// Time in the queue does not count.
    ///
    /// Cancel safe: dropping the future withdraws the source, unless its batch has started.
    ///
    /// # Errors
    /// Fails if preparation or the model does, or if one of them exceeds `limit`.
    pub(crate) async fn submit(
        &self,
        source: S,
        limit: Duration,
        priority: Priority,
    ) -> Result<O, LaneError> {
        (self.submit)(source, limit, priority).await
    }
}

async fn prepare_and_submit<M: Model>(
    model: Arc<M>,
    lane: Lane<M::Input, M::Output>,
    source: M::Source,
    limit: Duration,
) -> Result<M::Output, LaneError> {
    let preparation = spawn_blocking(move || model.prepare(&source));
    let joined = timeout(limit, preparation).await.map_err(|_| LaneError::TimedOut(limit))?;
    let input = joined
        .unwrap_or_else(|_| Err(RunError::Batch("the model's preparation panicked".into())))?;
    lane.submit_within(input, limit).await
}
