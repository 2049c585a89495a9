//! One image, the whole method on one screen: [`Journey::assess`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tracing::{Instrument, Span, debug_span};

use crate::engine::Engine;
use crate::event::{
    EngineProvenance, EventImage, EventParts, ImageReference, QualityEvent, Source, TimingsMs,
    TraceContext,
};
use crate::imaging::{self, Crop, Picture, crop_region, crop_whole};
use crate::method::{
    self, LevelDistribution, ObjectAssessment, Policy, Segmentation, Standard, assess, enlarge,
    select_regions,
};
use crate::redact;
use crate::storage::{FetchRequest, FetchedImage, Stores};
use crate::telemetry::{Stage, metrics};

use super::budget::{Budget, Share};
use super::error::Failure;
use super::provenance::provenance;
use super::settings::{Settings, StageLimits};

/// Crops of one image that are cut and rated at once: enough to fill a batch, few enough that the
/// copies of overlapping regions stay small beside the picture.
const CROPS_AT_ONCE: usize = 8;
/// How often the area of the picture these copies may have together: boxes may overlap as they like.
const CROPS_AREA_MAX: u64 = 4;

/// Work on so few pixels takes less than the half millisecond that a thread of the runtime may be
/// held, and less than handing it to another thread would.
const IN_PLACE_PX_MAX: u64 = 1 << 14;

/// The road from a reference to its event; clones share the limits.
#[derive(Debug, Clone)]
pub struct Journey {
    shared: Arc<Shared>,
}

/// What a journey is made of.
#[derive(Debug)]
pub struct JourneyParts {
    /// Limits of the road.
    pub settings: Settings,
    /// Limits of decoding.
    pub imaging: imaging::Settings,
    /// Standard, regions, aggregation and policies.
    pub method: method::Settings,
    /// Where images are read from.
    pub stores: Stores,
    /// What segments and rates them.
    pub engine: Engine,
}

#[derive(Debug)]
struct Shared {
    parts: JourneyParts,
    standard: Standard,
    provenance: EngineProvenance,
    bytes: Budget,
    pixels: Budget,
    fetch: Gate,
    decode: Gate,
    segment: Gate,
    score: Gate,
}

impl Journey {
    /// Prepares the road.
    ///
    /// # Errors
    /// When the configured standard or the policies contradict themselves.
    pub fn new(parts: JourneyParts) -> Result<Self, method::SettingsError> {
        let standard = parts.method.check()?;
        let limits = &parts.settings;
        let shared = Shared {
            provenance: provenance(
                parts.engine.info(),
                &standard,
                (&parts.method, parts.settings.crop),
            ),
            standard,
            bytes: Budget::new(limits.bytes_budget.as_u64()),
            pixels: Budget::new(limits.pixels_budget),
            fetch: Gate::timed(Stage::Fetch, &limits.fetch),
            decode: Gate::timed(Stage::Decode, &limits.decode),
            segment: Gate::of_device(Stage::Segment, &limits.segment),
            score: Gate::of_device(Stage::Score, &limits.score),
            parts,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The engine that this road leads through.
    pub fn engine(&self) -> &Engine {
        &self.shared.parts.engine
    }

    pub(super) fn parts(&self) -> &JourneyParts {
        &self.shared.parts
    }

    /// Takes one image the whole way.
    ///
    /// Cancel safe: a dropped future gives back what it held and leaves nothing behind.
    ///
    /// # Errors
    /// A [`Failure`] that says at which stage and why there is no event.
    pub async fn assess(
        &self,
        reference: ImageReference,
        source: Option<Source>,
    ) -> Result<QualityEvent, Failure> {
        let trace = reference.trace.as_ref().map(TraceContext::trace_id);
        let span = debug_span!("image", id = %redact::id(&reference.id), trace);
        let result = self.travel(&reference, source).instrument(span.clone()).await;
        span.in_scope(|| match &result {
            Ok(event) => tracing::debug!(score = event.score, "image scored"),
            Err(failure) => {
                metrics::stage_failed(failure.stage, failure.code);
                tracing::debug!(code = failure.code, %failure, "image not scored");
            }
        });
        result
    }

    /// Fetches and decodes only, within the same limits: for drawing on a picture that was scored.
    ///
    /// # Errors
    /// As [`Journey::assess`].
    pub async fn look(&self, reference: &ImageReference) -> Result<Picture, Failure> {
        let (fetched, _) = self.fetch(reference).await?;
        let (decoded, _) = self.decode(fetched).await?;
        Ok(decoded.picture)
    }

    async fn travel(
        &self,
        reference: &ImageReference,
        source: Option<Source>,
    ) -> Result<QualityEvent, Failure> {
        let started = Instant::now();
        let method = &self.shared.parts.method;
        let policy = self.policy(reference)?;

        let (fetched, fetch) = self.fetch(reference).await?;
        let etag = fetched.image.etag.clone();
        let (picture, decode) = self.decode(fetched).await?;
        let Rated { global, objects, segmentation, segment, score } =
            self.rate(&picture.picture).await?;

        let assessment = assess(global, objects, &method.aggregation);
        let verdict = policy.map(|policy| {
            let verdict = policy.judge(&assessment);
            if segmentation.is_skipped { policy.without_objects(verdict) } else { verdict }
        });
        Ok(QualityEvent::new(EventParts {
            reference,
            image: event_image(&picture.picture, etag),
            assessment: &assessment,
            segmentation: &segmentation,
            standard: &self.shared.standard,
            c_max: method.aggregation.c_max.get(),
            engine: self.shared.provenance.clone(),
            verdict,
            timings: TimingsMs {
                fetch: TimingsMs::of(fetch),
                decode: TimingsMs::of(decode),
                segment: TimingsMs::of(segment),
                score: TimingsMs::of(score),
                total: TimingsMs::of(started.elapsed()),
            },
            source,
            time: Utc::now(),
            include_masks: self.shared.parts.settings.masks_in_events,
        }))
    }

    fn policy(&self, reference: &ImageReference) -> Result<Option<Policy>, Failure> {
        let found = self.shared.parts.method.policies.find(reference.policy.as_deref());
        found.map_err(|error| Failure::permanent(Stage::Reference, error.code(), error.to_string()))
    }

    async fn fetch(&self, reference: &ImageReference) -> Result<(Fetched, Duration), Failure> {
        let shared = &self.shared;
        let mut share = shared.bytes.take(shared.parts.stores.bytes_max()).await;
        let request = FetchRequest {
            uri: &reference.uri,
            etag: reference.etag.as_deref(),
            sha256: reference.sha256.as_deref(),
        };
        let work = async { shared.parts.stores.fetch(&request).await.map_err(Failure::from) };
        let (image, time) = shared.fetch.pass(work).await?;
        share.shrink_to(image.bytes.len() as u64);
        Ok((Fetched { image, _share: share }, time))
    }

    async fn decode(&self, fetched: Fetched) -> Result<(Decoded, Duration), Failure> {
        let shared = &self.shared;
        let header = imaging::probe(&fetched.image.bytes, &shared.parts.imaging)?;
        let pixels = u64::from(header.width) * u64::from(header.height);
        let mut share = shared.pixels.take(header.decoding_cost()).await;
        metrics::budget_free(shared.bytes.free(), shared.pixels.free());
        let limits = shared.parts.imaging.clone();
        // The bytes and both shares travel with the work: an abandoned decode still holds them.
        let work = off_thread(Stage::Decode, pixels, move || {
            let picture = imaging::decode(&fetched.image.bytes, &limits)?;
            drop(fetched);
            share.shrink_to(pixels);
            Ok(Decoded { picture, _share: share })
        });
        shared.decode.pass(async { work.await? }).await
    }

    async fn segment(&self, picture: &Picture) -> Result<(Segmentation, Duration), Failure> {
        let shared = &self.shared;
        let work = async {
            let (settings, pixels) = (shared.parts.method.regions.clone(), pixels_of(picture));
            let (mut seen, side_max) = (picture.clone(), settings.side_max);
            if side_max > 0 {
                let shrink = move || imaging::shrink(&seen, side_max).unwrap_or(seen);
                seen = shared.segment.in_time(off_thread(Stage::Segment, pixels, shrink)).await?;
            }
            let limit = shared.parts.settings.segment.timeout;
            let masks = shared.parts.engine.segment(&seen, limit).await;
            let masks = masks.map_err(|error| Failure::engine(Stage::Segment, &error))?;
            let (width, height) = (picture.width(), picture.height());
            let frame = (seen.width(), seen.height());
            let select = move || {
                let is_shrunk = frame != (width, height);
                let masks = if is_shrunk { enlarge(masks, frame, (width, height))? } else { masks };
                select_regions(width, height, masks, &settings)
            };
            let selected = off_thread(Stage::Segment, pixels, select);
            let segmentation = shared.segment.in_time(selected).await?;
            segmentation.map_err(|error| {
                Failure::permanent(Stage::Segment, "segment.invalid_mask", error.to_string())
            })
        };
        shared.segment.pass(work).await
    }

    /// Looks for objects and rates all; or the whole first, if the rest may depend on it.
    async fn rate(&self, picture: &Picture) -> Result<Rated, Failure> {
        let shared = &self.shared;
        let settings = &shared.parts.method.objects;
        if !settings.rates_whole_first() {
            let (segmentation, segment) = self.segment(picture).await?;
            let work = async {
                let whole = self.rate_crop(crop_whole(picture));
                futures::try_join!(whole, self.rate_regions(picture, &segmentation))
            };
            let ((global, objects), score) = shared.score.pass(work).await?;
            return Ok(Rated { global, objects, segmentation, segment, score });
        }
        let (global, first) = shared.score.pass(self.rate_crop(crop_whole(picture))).await?;
        if !settings.needs_objects(&global) {
            let segmentation = Segmentation::skipped(picture.width(), picture.height());
            let (objects, segment) = (Vec::new(), Duration::ZERO);
            return Ok(Rated { global, objects, segmentation, segment, score: first });
        }
        let (segmentation, segment) = self.segment(picture).await?;
        let work = self.rate_regions(picture, &segmentation);
        let (objects, then) = shared.score.pass(work).await?;
        Ok(Rated { global, objects, segmentation, segment, score: first + then })
    }

    async fn rate_regions(
        &self,
        picture: &Picture,
        segmentation: &Segmentation,
    ) -> Result<Vec<ObjectAssessment>, Failure> {
        let shared = &self.shared;
        let pixels = pixels_of(picture);
        let area = &Budget::new(CROPS_AREA_MAX * pixels);
        let rate_region = |index: usize| {
            let region = segmentation.regions[index].clone();
            let (picture, mode) = (picture.clone(), shared.parts.settings.crop);
            async move {
                let bbox = region.mask.bbox();
                let _share = area.take(u64::from(bbox.width) * u64::from(bbox.height)).await;
                let cut = move || (crop_region(&picture, index, &region, mode), region);
                let cut = off_thread(Stage::Score, pixels, cut);
                let (crop, region) = shared.score.in_time(cut).await?;
                let rating = self.rate_crop(crop).await?;
                Ok(ObjectAssessment { region, rating })
            }
        };
        let regions = stream::iter(0..segmentation.regions.len());
        regions.map(rate_region).buffered(CROPS_AT_ONCE).try_collect().await
    }

    async fn rate_crop(&self, crop: Crop) -> Result<LevelDistribution, Failure> {
        let limit = self.shared.parts.settings.score.timeout;
        let rating = self.shared.parts.engine.rate(crop, limit).await;
        rating.map_err(|error| Failure::engine(Stage::Score, &error))
    }
}

fn event_image(picture: &Picture, etag: Option<String>) -> EventImage {
    EventImage {
        width: picture.width(),
        height: picture.height(),
        format: picture.format().name().to_owned(),
        bytes: picture.bytes_len(),
        sha256: hex::encode(picture.sha256()),
        etag,
    }
}

/// All ratings of an image, and how long finding and rating its objects took.
struct Rated {
    global: LevelDistribution,
    objects: Vec<ObjectAssessment>,
    segmentation: Segmentation,
    segment: Duration,
    score: Duration,
}

/// An image's bytes and their part of the budget.
struct Fetched {
    image: FetchedImage,
    _share: Share,
}

/// A picture and its part of the budget, held until the event is made.
struct Decoded {
    picture: Picture,
    _share: Share,
}

/// The door of a stage: so many images inside, each for so long.
#[derive(Debug)]
struct Gate {
    stage: Stage,
    places: Semaphore,
    timeout: Duration,
    /// Whether the time is that of all the work; else the engine times the device, so that waiting for it does not
    /// count, and what is done beside it is timed by itself.
    is_whole: bool,
}

impl Gate {
    fn timed(stage: Stage, limits: &StageLimits) -> Self {
        Self { is_whole: true, ..Self::of_device(stage, limits) }
    }

    fn of_device(stage: Stage, limits: &StageLimits) -> Self {
        let places = Semaphore::new(limits.images.get());
        Self { stage, places, timeout: limits.timeout, is_whole: false }
    }

    /// Waits for a place, then does the work within the stage's time; gives its duration with it.
    async fn pass<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Duration), Failure> {
        let _place = self.places.acquire().await.expect("gates are never closed");
        let timer = metrics::stage_entered(self.stage);
        let output = if self.is_whole { self.in_time(work).await? } else { work.await? };
        Ok((output, timer.elapsed()))
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(self.timed_out()))
    }

    fn timed_out(&self) -> Failure {
        let code = match self.stage {
            Stage::Fetch => "fetch.timeout",
            Stage::Decode => "decode.timeout",
            Stage::Segment => "segment.timeout",
            Stage::Score => "score.timeout",
            Stage::Reference | Stage::Publish => "pipeline.timeout",
        };
        let (stage, limit) = (self.stage, self.timeout);
        let message = format!(
            "{stage} took longer than {}; raise pipeline.{stage}.timeout or lower pipeline.{stage}.images",
            humantime::format_duration(limit)
        );
        Failure::permanent(stage, code, message)
    }
}

fn pixels_of(picture: &Picture) -> u64 {
    u64::from(picture.width()) * u64::from(picture.height())
}

/// Runs what would hold up the runtime's threads on one that may block.
async fn off_thread<T: Send + 'static>(
    stage: Stage,
    pixels: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if pixels <= IN_PLACE_PX_MAX {
        return Ok(work());
    }
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(|error| {
        Failure::permanent(stage, "pipeline.panicked", format!("{stage} ended early: {error}"))
    })
}
