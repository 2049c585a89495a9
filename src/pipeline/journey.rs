//! The whole method for one image: [`Journey::assess`].

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use serde_json::json;
use tracing::{Instrument, debug_span};

use crate::cache::AnswerCache;
use crate::checkpoints::metrics::LoadedParameters;
use crate::engine::Engine;
use crate::event::{
    EngineProvenance, EventImage, EventParts, ImageReference, QualityEvent, Source, TimingsMs,
    TraceContext,
};
use crate::imaging::{self, Picture};
use crate::method::{self, Policy, Standard, assess};
use crate::pipeline::answer::Answer;
use crate::pipeline::answer_store::{AnswerStore, LookedUp};
use crate::pipeline::budget::MemoryBudget;
use crate::pipeline::duplicates::Duplicates;
use crate::pipeline::error::JourneyError;
use crate::pipeline::provenance::{ScoreSettings, provenance};
use crate::pipeline::reason_stage::ReasonStage;
use crate::pipeline::settings::Settings;
use crate::pipeline::stage_limiter::StageLimiter;
use crate::pipeline::upload::{Upload, UploadSpace};
use crate::priority::Priority;
use crate::redact;
use crate::storage::Stores;
use crate::telemetry::{Stage, metrics};

/// The path of an image from its reference to its event. Clones share limits and models.
#[derive(Debug, Clone)]
pub struct Journey {
    pub(super) resources: Arc<Resources>,
    /// The shared engine; its inputs have this journey's priority.
    pub(super) engine: Engine,
    pub(super) priority: Priority,
    answers: AnswerStore,
}

/// The parts that a journey is built from.
#[derive(Debug)]
pub struct JourneyParts {
    /// Limits of the stages.
    pub settings: Settings,
    /// Limits of decoding.
    pub imaging: imaging::Settings,
    /// Standard, regions, aggregation and policies.
    pub method: method::Settings,
    /// Stores that images are read from.
    pub stores: Stores,
    /// The engine that segments and rates.
    pub engine: Engine,
    /// The metrics to compute, with their parameters. [`Journey::new`] replaces
    /// `settings.measures` with their names.
    pub measures: Vec<Arc<LoadedParameters>>,
}

/// Everything that images in flight share.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) parts: JourneyParts,
    standard: Standard,
    provenance: EngineProvenance,
    duplicates: Duplicates,
    pub(super) bytes: MemoryBudget,
    pub(super) pixels: MemoryBudget,
    pub(super) fetch: StageLimiter,
    pub(super) decode: StageLimiter,
    pub(super) segment: StageLimiter,
    pub(super) score: StageLimiter,
    pub(super) measure: StageLimiter,
    pub(super) reasons: Option<ReasonStage>,
}

impl Journey {
    /// Checks the method's settings and sets up the limits.
    ///
    /// # Errors
    /// Fails if the configured standard or policies are contradictory, or if a policy names reasons
    /// that are not measured.
    pub fn new(mut parts: JourneyParts) -> Result<Self, method::SettingsError> {
        parts.settings.measures = parts.measures.iter().map(|loaded| loaded.metric()).collect();
        let limits = &parts.settings;
        let standard = limits.check_method(&parts.method)?;
        let settings = ScoreSettings {
            method: &parts.method,
            imaging: &parts.imaging,
            crop: limits.crop,
            crop_margin: limits.crop_margin,
        };
        let resources = Resources {
            provenance: provenance(parts.engine.info(), &standard, settings),
            standard,
            duplicates: Duplicates::new(&limits.duplicates),
            bytes: MemoryBudget::new(limits.bytes_budget.as_u64()),
            pixels: MemoryBudget::new(limits.pixels_budget),
            fetch: StageLimiter::new(Stage::Fetch, &limits.fetch),
            decode: StageLimiter::new(Stage::Decode, &limits.decode),
            segment: StageLimiter::new(Stage::Segment, &limits.segment),
            score: StageLimiter::new(Stage::Score, &limits.score),
            measure: StageLimiter::new(Stage::Measure, &limits.measure),
            reasons: ReasonStage::new(limits),
            parts,
        };
        let priority = Priority::default();
        let engine = resources.parts.engine.with_priority(priority);
        let answers = AnswerStore::default();
        Ok(Self { resources: Arc::new(resources), engine, priority, answers })
    }

    /// Returns the same journey, with the same limits and models, for work of this priority.
    #[must_use]
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { engine: self.engine.with_priority(priority), priority, ..self.clone() }
    }

    /// Answers images with known bytes from a cache, and adds the others to it.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<AnswerCache>) -> Self {
        let Resources { parts, provenance, reasons, .. } = &*self.resources;
        let measures: Vec<_> =
            parts.measures.iter().map(|loaded| (loaded.metric(), loaded.version())).collect();
        // The provenance names every setting that a score depends on.
        let hashes = parts.settings.hashes_pictures();
        let version = env!("CARGO_PKG_VERSION");
        let context = json!([version, provenance, measures, reasons.is_some(), hashes]);
        self.answers = AnswerStore::new(cache, &context);
        self
    }

    /// Returns the engine that segments and rates.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the provenance that all events of this pipeline contain.
    pub fn provenance(&self) -> &EngineProvenance {
        &self.resources.provenance
    }

    pub(crate) fn parts(&self) -> &JourneyParts {
        &self.resources.parts
    }

    /// Assesses one image. `source` is only a label: it is copied to the event, to identify the
    /// record of the reference.
    ///
    /// Cancel safe: a dropped future releases its budgets and slots and leaves nothing behind.
    ///
    /// # Errors
    /// Fails with the stage that prevented the event, and the cause.
    pub async fn assess(
        &self,
        reference: ImageReference,
        source: Option<Source>,
    ) -> Result<QualityEvent, JourneyError> {
        self.assess_input(reference, source, None).await
    }

    /// Reserves memory for an image that arrives with its request, before it is read. Waits while
    /// the budget of fetched bytes is used up.
    ///
    /// Cancel safe.
    pub async fn reserve_upload(&self, bytes: u64) -> UploadSpace {
        UploadSpace::new(self.resources.bytes.reserve(bytes, self.priority).await)
    }

    /// Assesses an image that arrived with its request. `reference` names it in the event; nothing
    /// is fetched. Cancel safe, as [`Journey::assess`].
    ///
    /// # Errors
    /// As [`Journey::assess`].
    pub async fn assess_upload(
        &self,
        upload: Upload,
        reference: ImageReference,
    ) -> Result<QualityEvent, JourneyError> {
        self.assess_input(reference, None, Some(upload)).await
    }

    async fn assess_input(
        &self,
        reference: ImageReference,
        source: Option<Source>,
        upload: Option<Upload>,
    ) -> Result<QualityEvent, JourneyError> {
        let trace = reference.trace.as_ref().map(TraceContext::trace_id);
        let span = debug_span!("image", id = %redact::id(&reference.id), trace);
        let result = self.run_stages(&reference, source, upload).instrument(span.clone()).await;
        span.in_scope(|| match &result {
            Ok(event) => tracing::debug!(score = event.score, "image scored"),
            Err(failure) => {
                metrics::stage_failed(failure.stage, failure.code);
                tracing::debug!(code = failure.code, %failure, "image not scored");
            }
        });
        result
    }

    /// Fetches and decodes an image within the same limits, e.g. to draw on it.
    ///
    /// # Errors
    /// As [`Journey::assess`].
    pub async fn fetch_picture(&self, reference: &ImageReference) -> Result<Picture, JourneyError> {
        let (fetched, _) = self.fetch(reference).await?;
        let probed = fetched.probe(&self.resources.parts.imaging)?;
        let (decoded, _) = self.decode(probed).await?;
        Ok(decoded.picture)
    }

    async fn run_stages(
        &self,
        reference: &ImageReference,
        source: Option<Source>,
        upload: Option<Upload>,
    ) -> Result<QualityEvent, JourneyError> {
        let started = upload.as_ref().map_or_else(Instant::now, Upload::started);
        let method = &self.resources.parts.method;
        let policy = self.find_policy(reference.policy.as_deref())?;
        // Nothing is fetched for a server that is known to rate nothing, unless the answer may be
        // known.
        if !self.answers.is_on() {
            self.check_server()?;
        }

        let (fetched, fetch) = match upload {
            Some(upload) => upload.into_fetched(),
            None => self.fetch(reference).await?,
        };
        let etag = fetched.image.etag.clone();
        let sha256 = fetched.image.sha256;
        // Before the cache is asked: the limits of decoding may be lower than for its answer.
        let probed = fetched.probe(&self.resources.parts.imaging)?;
        let (answer, times) = match self.answers.look_up(sha256).await? {
            LookedUp::Known(answer) => (*answer, None),
            LookedUp::Unknown(key) => {
                self.check_server()?;
                let (answer, times) = self.answer(probed).await?;
                // If its reasons could not be measured, those of the next image may be.
                let is_whole = answer.reasons.is_some() || self.resources.reasons.is_none();
                (self.answers.keep(key.filter(|_| is_whole), answer).await?, Some(times))
            }
        };
        let Answer { image, global, objects, segmentation, measures, reasons } = answer;
        let phash = image.phash.as_deref();
        // A client of the HTTP API must not learn the ids of another one.
        let is_record = self.priority == Priority::Backlog;
        let phash_of_record = phash.filter(|_| is_record);
        let duplicate_of = self.resources.duplicates.observe(reference, phash_of_record);
        let phash = image.phash.filter(|_| self.resources.parts.settings.phash);

        let assessment = assess(global, objects, &method.aggregation);
        let verdict = policy.map(|policy| {
            let verdict = policy.judge(&assessment);
            let verdict = policy.with_reasons(verdict, &assessment, reasons.as_deref());
            if segmentation.is_skipped { policy.without_objects(verdict) } else { verdict }
        });
        let event = QualityEvent::new(EventParts {
            reference,
            image: EventImage { etag, phash, ..image },
            assessment: &assessment,
            segmentation: &segmentation,
            measures,
            reasons: self
                .resources
                .reasons
                .as_ref()
                .zip(reasons.as_deref())
                .map(|(stage, reasons)| stage.with_texts(reasons)),
            standard: &self.resources.standard,
            aggregation: &method.aggregation,
            score_mos: method.calibration.as_ref().map(|curve| curve.opinion(&assessment)),
            engine: self.resources.provenance.clone().with_servers(
                assessment.objects.iter().map(|object| &object.rating).chain([&assessment.global]),
            ),
            verdict,
            timings: TimingsMs {
                fetch: TimingsMs::of(fetch),
                total: TimingsMs::of(started.elapsed()),
                ..times.unwrap_or_default()
            },
            source,
            time: Utc::now(),
            include_masks: self.resources.parts.settings.masks_in_events,
        });
        Ok(QualityEvent { duplicate_of, cached: times.is_none(), ..event })
    }

    /// Fails if the scoring server is away.
    fn check_server(&self) -> Result<(), JourneyError> {
        match self.engine.server().and_then(|server| server.outage()) {
            Some(outage) => Err(JourneyError::server_outage(&outage)),
            None => Ok(()),
        }
    }

    /// Finds the policy of this name, or the default policy without a name.
    ///
    /// # Errors
    /// Fails if it is not configured.
    pub(crate) fn find_policy(&self, name: Option<&str>) -> Result<Option<Policy>, JourneyError> {
        self.resources.parts.method.policies.find(name).map_err(|error| {
            JourneyError::permanent(Stage::Reference, error.code(), error.to_string())
        })
    }
}
