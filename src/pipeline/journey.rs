//! The whole method for one image: [`Journey::assess`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tracing::{Instrument, debug_span};

use crate::cache::AnswerCache;
use crate::checkpoints::metrics::LoadedParameters;
use crate::engine::Engine;
use crate::event::{
    EngineProvenance, EventImage, EventMeasure, EventParts, ImageReference, QualityEvent, Source,
    TimingsMs, TraceContext,
};
use crate::imaging::{self, Crop, PerceptualHash, Picture, crop_region, crop_whole};
use crate::method::{
    self, LevelDistribution, ObjectAssessment, Policy, Segmentation, Standard, assess, enlarge,
    select_regions,
};
use crate::metrics::measure;
use crate::pipeline::answer::{Answer, event_image};
use crate::pipeline::answer_store::{AnswerStore, LookedUp};
use crate::pipeline::blocking::{run_blocking, run_pass};
use crate::pipeline::budget::{BudgetShare, MemoryBudget};
use crate::pipeline::duplicates::Duplicates;
use crate::pipeline::error::JourneyError;
use crate::pipeline::provenance::{ScoreSettings, provenance};
use crate::pipeline::settings::Settings;
use crate::pipeline::stage_limiter::StageLimiter;
use crate::redact;
use crate::storage::{FetchRequest, FetchedImage, StoreFailure, StoreFault, Stores, Turn};
use crate::telemetry::{Stage, metrics};

/// Maximum number of crops of one image in memory: enough to fill a batch, but few enough that
/// copies of overlapping regions stay small compared with the picture.
const CROPS_AT_ONCE: usize = 8;
/// Maximum total area of these crops, in multiples of the picture's area: regions may overlap.
const CROPS_AREA_MAX: u64 = 4;

/// The path of an image from its reference to its event. Clones share limits and models.
#[derive(Debug, Clone)]
pub struct Journey {
    resources: Arc<Resources>,
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
    /// The metrics of `settings.measures`, with their parameters.
    pub measures: Vec<Arc<LoadedParameters>>,
}

/// Everything that images in flight share.
#[derive(Debug)]
struct Resources {
    parts: JourneyParts,
    standard: Standard,
    provenance: EngineProvenance,
    duplicates: Duplicates,
    bytes: MemoryBudget,
    pixels: MemoryBudget,
    fetch: StageLimiter,
    decode: StageLimiter,
    segment: StageLimiter,
    score: StageLimiter,
    measure: StageLimiter,
}

impl Journey {
    /// Checks the method's settings and sets up the limits.
    ///
    /// # Errors
    /// Fails if the configured standard or policies are contradictory.
    pub fn new(parts: JourneyParts) -> Result<Self, method::SettingsError> {
        let standard = parts.method.check()?;
        let limits = &parts.settings;
        let measures = parts.measures.iter().map(|loaded| loaded.metric());
        debug_assert!(measures.eq(limits.measures.iter().copied()), "the metrics of the settings");
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
            parts,
        };
        Ok(Self { resources: Arc::new(resources), answers: AnswerStore::default() })
    }

    /// Answers images with known bytes from a cache, and adds the others to it.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<AnswerCache>) -> Self {
        let Resources { parts, provenance, .. } = &*self.resources;
        let measures: Vec<_> =
            parts.measures.iter().map(|loaded| (loaded.metric(), loaded.version())).collect();
        // The provenance names every setting that a score depends on.
        let hashes = parts.settings.hashes_pictures();
        let context = json!([env!("CARGO_PKG_VERSION"), provenance, measures, hashes]);
        self.answers = AnswerStore::new(cache, &context);
        self
    }

    /// Returns the engine that segments and rates.
    pub fn engine(&self) -> &Engine {
        &self.resources.parts.engine
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
        let trace = reference.trace.as_ref().map(TraceContext::trace_id);
        let span = debug_span!("image", id = %redact::id(&reference.id), trace);
        let result = self.run_stages(&reference, source).instrument(span.clone()).await;
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
        let (decoded, _) = self.decode(fetched).await?;
        Ok(decoded.picture)
    }

    async fn run_stages(
        &self,
        reference: &ImageReference,
        source: Option<Source>,
    ) -> Result<QualityEvent, JourneyError> {
        let started = Instant::now();
        let method = &self.resources.parts.method;
        let policy = self.policy(reference)?;
        // Nothing is fetched and segmented for a server that is known to rate nothing.
        if let Some(outage) = self.engine().server().and_then(|server| server.outage()) {
            return Err(JourneyError::server_outage(&outage));
        }

        let (fetched, fetch) = self.fetch(reference).await?;
        let etag = fetched.image.etag.clone();
        let looked_up = self.answers.look_up(fetched, &self.resources.parts.imaging).await?;
        let (answer, times) = match looked_up {
            LookedUp::Known(answer) => (*answer, None),
            LookedUp::Unknown(fetched, key) => {
                let (answer, times) = self.answer(fetched).await?;
                (self.answers.keep(key, answer).await?, Some(times))
            }
        };
        let Answer { image, global, objects, segmentation, measures } = answer;
        let phash = image.phash.as_deref();
        let duplicate_of = self.resources.duplicates.observe(reference, phash);
        let phash = image.phash.filter(|_| self.resources.parts.settings.phash);

        let assessment = assess(global, objects, &method.aggregation);
        let verdict = policy.map(|policy| {
            let verdict = policy.judge(&assessment);
            if segmentation.is_skipped { policy.without_objects(verdict) } else { verdict }
        });
        let event = QualityEvent::new(EventParts {
            reference,
            image: EventImage { etag, phash, ..image },
            assessment: &assessment,
            segmentation: &segmentation,
            measures,
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

    /// Decodes, rates and measures an image. Returns the times of these stages.
    async fn answer(&self, fetched: Fetched) -> Result<(Answer, TimingsMs), JourneyError> {
        let (decoded, decode) = self.decode(fetched).await?;
        let (rated, measured) =
            futures::try_join!(self.rate(&decoded.picture), self.measure(&decoded))?;
        let Rated { global, objects, segmentation, segment, score } = rated;
        let image = event_image(&decoded.picture, decoded.hash);
        let answer = Answer { image, global, objects, segmentation, measures: measured.measures };
        let times = TimingsMs {
            decode: TimingsMs::of(decode),
            segment: TimingsMs::of(segment),
            score: TimingsMs::of(score),
            measure: measured.time.map(TimingsMs::of),
            ..TimingsMs::default()
        };
        Ok((answer, times))
    }

    fn policy(&self, reference: &ImageReference) -> Result<Option<Policy>, JourneyError> {
        let policies = &self.resources.parts.method.policies;
        policies.find(reference.policy.as_deref()).map_err(|error| {
            JourneyError::permanent(Stage::Reference, error.code(), error.to_string())
        })
    }

    /// Fetches an image. Repeats a throttled request for up to the stage's timeout; if the store
    /// demands a longer pause, returns the failure at once. Waits outside the stage and without a
    /// share of the budget, so that other stores are not delayed.
    async fn fetch(&self, reference: &ImageReference) -> Result<(Fetched, Duration), JourneyError> {
        let Resources { parts, fetch, .. } = &*self.resources;
        let mut throttled_since = None;
        let mut attempts = 0;
        loop {
            let turn = parts.stores.turn(&reference.uri).await;
            let failure = match self.fetch_once(reference, turn).await {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => failure,
            };
            attempts += failure.attempts;
            let failure = JourneyError { attempts, ..failure };
            let Some(StoreFailure { fault: StoreFault::Throttled, retry_after, .. }) =
                failure.store
            else {
                return Err(failure);
            };
            let since = *throttled_since.get_or_insert_with(Instant::now);
            let remaining = fetch.timeout().saturating_sub(since.elapsed());
            let delay = parts.stores.throttled_delay(&reference.uri, attempts, retry_after);
            if delay >= remaining {
                return Err(failure);
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn fetch_once(
        &self,
        reference: &ImageReference,
        turn: Turn,
    ) -> Result<(Fetched, Duration), JourneyError> {
        let Resources { parts, bytes, fetch, .. } = &*self.resources;
        let mut share = bytes.reserve(parts.stores.bytes_max()).await;
        let request = FetchRequest {
            uri: &reference.uri,
            etag: reference.etag.as_deref(),
            sha256: reference.sha256.as_deref(),
            version_id: reference.version_id.as_deref(),
            declared_bytes: reference.declared_bytes,
        };
        let work = async {
            turn.start();
            parts.stores.fetch(&request).await.map_err(JourneyError::from)
        };
        let (image, time) = fetch.run_within_timeout(work).await?;
        share.shrink_to(image.bytes.len() as u64);
        Ok((Fetched { image, _share: share }, time))
    }

    async fn decode(&self, fetched: Fetched) -> Result<(Decoded, Duration), JourneyError> {
        let Resources { parts, bytes, pixels: budget, decode, .. } = &*self.resources;
        let header = imaging::probe(&fetched.image.bytes, &parts.imaging)?;
        let pixels = u64::from(header.width) * u64::from(header.height);
        let mut share = budget.reserve(header.decoding_cost()).await;
        metrics::budget_free(bytes.free(), budget.free());
        let limits = parts.imaging.clone();
        let is_hashed = parts.settings.hashes_pictures();
        // The closure owns the bytes and both reservations, so an abandoned decode still holds
        // them.
        let work = run_pass(Stage::Decode, pixels, move || {
            let picture = imaging::decode(&fetched.image.bytes, &limits)?;
            drop(fetched);
            share.shrink_to(pixels);
            let hash = is_hashed.then(|| PerceptualHash::of(picture.pixels()));
            Ok(Decoded { picture, hash, share: Arc::new(share) })
        });
        decode.run_within_timeout(async { work.await? }).await
    }

    async fn segment(&self, picture: &Picture) -> Result<(Segmentation, Duration), JourneyError> {
        self.resources.segment.run(self.find_regions(picture)).await
    }

    async fn find_regions(&self, picture: &Picture) -> Result<Segmentation, JourneyError> {
        let Resources { parts, segment, .. } = &*self.resources;
        let settings = parts.method.regions.clone();
        let pixels = pixels_of(picture);
        let mut segmented = picture.clone();
        if settings.side_max > 0 {
            let side_max = settings.side_max;
            let shrink = move || imaging::shrink(&segmented, side_max).unwrap_or(segmented);
            let work = run_pass(Stage::Segment, pixels, shrink);
            segmented = segment.within_timeout(work).await?;
        }
        let masks = parts
            .engine
            .segment(&segmented, parts.settings.segment.timeout)
            .await
            .map_err(|error| JourneyError::engine(Stage::Segment, &error))?;
        let (width, height) = (picture.width(), picture.height());
        let frame = (segmented.width(), segmented.height());
        let select = move || {
            let is_shrunk = frame != (width, height);
            let in_frame = if is_shrunk { enlarge(masks, frame, (width, height))? } else { masks };
            select_regions(width, height, in_frame, &settings)
        };
        let work = run_pass(Stage::Segment, pixels, select);
        segment.within_timeout(work).await?.map_err(|error| {
            JourneyError::permanent(Stage::Segment, "segment.invalid_mask", error.to_string())
        })
    }

    /// Finds the objects and rates everything. If the rating of the whole image may make its
    /// objects unnecessary, rates the whole first.
    async fn rate(&self, picture: &Picture) -> Result<Rated, JourneyError> {
        let Resources { parts, score: limiter, .. } = &*self.resources;
        let settings = &parts.method.objects;
        if !settings.rates_whole_first() {
            let (segmentation, segment) = self.segment(picture).await?;
            let work = async {
                let whole = self.rate_crop(crop_whole(picture));
                futures::try_join!(whole, self.rate_regions(picture, &segmentation))
            };
            let ((global, objects), score) = limiter.run(work).await?;
            return Ok(Rated { global, objects, segmentation, segment, score });
        }
        let (global, whole_time) = limiter.run(self.rate_crop(crop_whole(picture))).await?;
        if !settings.needs_objects(&global) {
            return Ok(Rated {
                global,
                objects: Vec::new(),
                segmentation: Segmentation::skipped(picture.width(), picture.height()),
                segment: Duration::ZERO,
                score: whole_time,
            });
        }
        let (segmentation, segment) = self.segment(picture).await?;
        let (objects, objects_time) =
            limiter.run(self.rate_regions(picture, &segmentation)).await?;
        Ok(Rated { global, objects, segmentation, segment, score: whole_time + objects_time })
    }

    async fn rate_regions(
        &self,
        picture: &Picture,
        segmentation: &Segmentation,
    ) -> Result<Vec<ObjectAssessment>, JourneyError> {
        let Resources { parts, score: limiter, .. } = &*self.resources;
        let pixels = pixels_of(picture);
        let area = &MemoryBudget::new(CROPS_AREA_MAX * pixels);
        let rate_region = |index: usize| {
            let region = segmentation.regions[index].clone();
            let picture = picture.clone();
            let (mode, margin) = (parts.settings.crop, parts.settings.crop_margin);
            async move {
                let bbox = margin.extend(region.mask.bbox(), picture.pixels().dimensions());
                let _share = area.reserve(u64::from(bbox.width) * u64::from(bbox.height)).await;
                let crop = move || (crop_region(&picture, index, &region, (mode, margin)), region);
                let work = run_pass(Stage::Score, pixels, crop);
                let (crop, region) = limiter.within_timeout(work).await?;
                let rating = self.rate_crop(crop).await?;
                Ok(ObjectAssessment { region, rating })
            }
        };
        let regions = stream::iter(0..segmentation.regions.len());
        regions.map(rate_region).buffered(CROPS_AT_ONCE).try_collect().await
    }

    async fn rate_crop(&self, crop: Crop) -> Result<LevelDistribution, JourneyError> {
        let parts = &self.resources.parts;
        let rating = parts.engine.rate(crop, parts.settings.score.timeout).await;
        rating.map_err(|error| JourneyError::engine(Stage::Score, &error))
    }

    /// Computes the configured metrics, one after the other. A metric without a value for this
    /// image has a reason instead.
    async fn measure(&self, decoded: &Decoded) -> Result<Measured, JourneyError> {
        let Resources { parts, measure: limiter, .. } = &*self.resources;
        if parts.measures.is_empty() {
            return Ok(Measured::default());
        }
        let work = async {
            let mut measures = Vec::new();
            for loaded in &parts.measures {
                let loaded = Arc::clone(loaded);
                let (picture, share) = (decoded.picture.clone(), Arc::clone(&decoded.share));
                // The closure owns the pixels and their reservation, so an abandoned measurement
                // still holds them.
                let measured = run_blocking(Stage::Measure, move || {
                    let measured = measure(picture.pixels(), &loaded.parameters);
                    drop((picture, share));
                    EventMeasure::new(loaded.metric(), measured, loaded.version())
                });
                measures.push(measured.await?);
            }
            Ok(measures)
        };
        let (measures, time) = limiter.run_within_timeout(work).await?;
        Ok(Measured { measures, time: Some(time) })
    }
}

/// All ratings of an image, with the time for finding and for rating its objects.
struct Rated {
    global: LevelDistribution,
    objects: Vec<ObjectAssessment>,
    segmentation: Segmentation,
    segment: Duration,
    score: Duration,
}

/// The bytes of an image and their share of the budget.
struct Fetched {
    image: FetchedImage,
    _share: BudgetShare,
}

impl AsRef<[u8]> for Fetched {
    fn as_ref(&self) -> &[u8] {
        &self.image.bytes
    }
}

/// A picture and its share of the budget, held until the event is built.
struct Decoded {
    picture: Picture,
    /// The perceptual hash, if the settings need it.
    hash: Option<PerceptualHash>,
    share: Arc<BudgetShare>,
}

/// The hand-crafted metrics of an image, with the time for all of them; `None` without any.
#[derive(Default)]
struct Measured {
    measures: Vec<EventMeasure>,
    time: Option<Duration>,
}

fn pixels_of(picture: &Picture) -> u64 {
    u64::from(picture.width()) * u64::from(picture.height())
}
