//! Measures the reasons of one image within the limits of the stage `measure`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::EventReason;
use crate::imaging::Picture;
use crate::method::{Reason, Region};
use crate::pipeline::blocking::{is_in_place, run_blocking};
use crate::pipeline::budget::{BudgetShare, MemoryBudget};
use crate::pipeline::settings::Settings;
use crate::pipeline::stage_limiter::StageLimiter;
use crate::priority::Priority;
use crate::reasons::{ReasonTexts, measure};
use crate::telemetry::{LineLimit, Stage, metrics, spans};

/// Limits the lines about reasons that could not be measured.
static FAILED_LINES: LineLimit = LineLimit::new(Duration::from_mins(1));
/// Maximum bytes for the reasons of one image: its cells and their copies, whose number is bounded,
/// and the lines of its middle.
const BYTES_PER_IMAGE: u64 = 12 << 20;

/// Measures reasons, within a budget of memory that all images share.
#[derive(Debug)]
pub(crate) struct ReasonStage {
    budget: MemoryBudget,
    texts: ReasonTexts,
}

/// The reasons of an image, with the time for measuring them; `None` if they are off or failed.
#[derive(Debug, Default)]
pub(crate) struct MeasuredReasons {
    pub(crate) list: Option<Vec<Reason>>,
    pub(crate) time: Option<Duration>,
}

impl ReasonStage {
    /// Sets up the budget. Returns `None` if reasons are off.
    pub(crate) fn new(settings: &Settings) -> Option<Self> {
        settings.reasons.then(|| Self {
            budget: MemoryBudget::new(reasons_memory(settings)),
            texts: settings.reason_texts.clone(),
        })
    }

    /// Measures a picture and its regions. Never fails: an event without reasons is better than
    /// none. `share` is the picture's part of the pixels budget.
    pub(crate) async fn measure(
        &self,
        limiter: &StageLimiter,
        priority: Priority,
        (picture, share): (&Picture, &Arc<BudgetShare>),
        regions: &[Region],
    ) -> MeasuredReasons {
        if is_in_place(picture.area_px()) {
            return measure_in_place(picture, regions);
        }
        let memory = self.budget.reserve(BYTES_PER_IMAGE, priority).await;
        let (picture, share) = (picture.clone(), Arc::clone(share));
        let regions = regions.to_vec();
        // The closure owns the pixels and both reservations, so an abandoned measurement still
        // holds them.
        let work = run_blocking(Stage::Measure, move || {
            let list = measure(&picture, &regions);
            drop((picture, share, memory));
            list
        });
        match limiter.run_within_timeout(priority, work).await {
            Ok((list, time)) => MeasuredReasons { list: Some(list), time: Some(time) },
            Err(failure) => {
                metrics::stage_failed(Stage::Measure, failure.code);
                if let Some(repeated) = FAILED_LINES.admit(failure.code, Instant::now()) {
                    let (code, message) = (failure.code, &failure.message);
                    tracing::warn!(code, repeated, message, "events without reasons");
                }
                MeasuredReasons::default()
            }
        }
    }

    /// Adds the sentences.
    pub(crate) fn with_texts(&self, reasons: &[Reason]) -> Vec<EventReason> {
        let with_text = |&reason: &Reason| EventReason::new(reason, self.texts.text(reason.code));
        reasons.iter().map(with_text).collect()
    }
}

/// Measures a small picture on this thread. It has few cells and never waits, so it needs no memory
/// of the budget, no slot and no time limit.
fn measure_in_place(picture: &Picture, regions: &[Region]) -> MeasuredReasons {
    let timer = metrics::stage_entered(Stage::Measure);
    let list = spans::stage_span(Stage::Measure).in_scope(|| measure(picture, regions));
    MeasuredReasons { list: Some(list), time: Some(timer.elapsed()) }
}

/// Returns the maximum bytes for the reasons of all images.
pub(crate) fn reasons_memory(settings: &Settings) -> u64 {
    BYTES_PER_IMAGE.saturating_mul(settings.measure.images.get() as u64)
}
