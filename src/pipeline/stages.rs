//! The stages of a journey: each runs within its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::event::{EventMeasure, ImageReference, TimingsMs};
use crate::imaging::{
    self, Crop, PerceptualHash, Picture, ProbedFile, crop_region, crop_whole, decode_probed,
};
use crate::method::{LevelDistribution, ObjectAssessment, Segmentation, enlarge, select_regions};
use crate::metrics::measure;
use crate::pipeline::answer::{Answer, event_image};
use crate::pipeline::blocking::{run_blocking, run_pass};
use crate::pipeline::budget::{BudgetShare, MemoryBudget};
use crate::pipeline::error::JourneyError;
use crate::pipeline::journey::{Journey, Resources};
use crate::pipeline::reason_stage::MeasuredReasons;
use crate::pipeline::upload::{Fetched, Probed};
use crate::storage::{FetchRequest, FetchedImage, StoreFailure, StoreFault, Turn};
use crate::telemetry::{Stage, metrics};

/// Maximum number of crops of one image in memory: enough to fill a batch, but few enough that
/// copies of overlapping regions stay small compared with the picture.
const CROPS_AT_ONCE: usize = 8;
/// Maximum total area of these crops, in multiples of the picture's area: regions may overlap.
const CROPS_AREA_MAX: u64 = 4;

impl Journey {
    /// Decodes, rates and measures an image. Returns the times of these stages.
    pub(super) async fn answer(&self, probed: Probed) -> Result<(Answer, TimingsMs), JourneyError> {
        let (decoded, decode) = self.decode(probed).await?;
        let (rated, measured) = futures::try_join!(self.rate(&decoded), self.measure(&decoded))?;
        let Rated { global, objects, segmentation, reasons, segment, score } = rated;
        let answer = Answer {
            image: event_image(&decoded.picture, decoded.hash),
            global,
            objects,
            segmentation,
            measures: measured.measures,
            reasons: reasons.list,
        };
        let times = TimingsMs {
            decode: TimingsMs::of(decode),
            segment: TimingsMs::of(segment),
            score: TimingsMs::of(score),
            measure: added(measured.time, reasons.time).map(TimingsMs::of),
            ..TimingsMs::default()
        };
        Ok((answer, times))
    }

    /// Fetches an image. Repeats a throttled request for up to the stage's timeout; if the store
    /// demands a longer pause, returns the failure at once. Waits outside the stage and without a
    /// share of the budget, so that other stores are not delayed.
    pub(super) async fn fetch(
        &self,
        reference: &ImageReference,
    ) -> Result<(Fetched, Duration), JourneyError> {
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
        let mut share = bytes.reserve(parts.stores.bytes_max(), self.priority).await;
        let request = FetchRequest {
            uri: &reference.uri,
            etag: reference.etag.as_deref(),
            sha256: reference.sha256.as_deref(),
            version_id: reference.version_id.as_deref(),
            declared_bytes: reference.declared_bytes,
            judge_content_type: reference.judge_content_type,
        };
        let work = async {
            turn.start();
            parts.stores.fetch(&request).await.map_err(JourneyError::from)
        };
        let (image, time) = fetch.run_within_timeout(self.priority, work).await?;
        share.shrink_to(image.bytes.len() as u64);
        Ok((Fetched { image, share }, time))
    }

    pub(super) async fn decode(
        &self,
        Probed { fetched, header }: Probed,
    ) -> Result<(Decoded, Duration), JourneyError> {
        let Resources { parts, bytes, pixels: budget, decode, .. } = &*self.resources;
        let pixels = u64::from(header.width) * u64::from(header.height);
        let mut share = budget.reserve(header.decoding_cost(), self.priority).await;
        metrics::budget_free(bytes.free(), budget.free());
        let limits = parts.imaging.clone();
        let is_hashed = parts.settings.hashes_pictures();
        // The closure owns the bytes and both reservations, so an abandoned decode still holds
        // them.
        let work = run_pass(Stage::Decode, pixels, move || {
            let FetchedImage { bytes, sha256, .. } = &fetched.image;
            let picture = decode_probed(ProbedFile { bytes, header, sha256: *sha256 }, &limits)?;
            drop(fetched);
            share.shrink_to(pixels);
            let hash = is_hashed.then(|| PerceptualHash::of(picture.pixels()));
            Ok(Decoded { picture, hash, share: Arc::new(share) })
        });
        decode.run_within_timeout(self.priority, async { work.await? }).await
    }

    async fn segment(&self, picture: &Picture) -> Result<(Segmentation, Duration), JourneyError> {
        self.resources.segment.run(self.priority, self.find_regions(picture)).await
    }

    async fn find_regions(&self, picture: &Picture) -> Result<Segmentation, JourneyError> {
        let Resources { parts, segment, .. } = &*self.resources;
        let settings = parts.method.regions.clone();
        let pixels = picture.area_px();
        let mut segmented = picture.clone();
        if settings.side_max > 0 {
            let side_max = settings.side_max;
            let shrink = move || imaging::shrink(&segmented, side_max).unwrap_or(segmented);
            let work = run_pass(Stage::Segment, pixels, shrink);
            segmented = segment.within_timeout(work).await?;
        }
        let masks = self
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
    async fn rate(&self, decoded: &Decoded) -> Result<Rated, JourneyError> {
        let picture = &decoded.picture;
        let Resources { parts, score: limiter, .. } = &*self.resources;
        let settings = &parts.method.objects;
        if !settings.rates_whole_first() {
            let (segmentation, segment) = self.segment(picture).await?;
            let work = async {
                let whole = self.rate_crop(crop_whole(picture));
                futures::try_join!(whole, self.rate_regions(picture, &segmentation))
            };
            let reasons = self.reasons(decoded, &segmentation).map(Ok);
            let (rated, reasons) = futures::try_join!(limiter.run(self.priority, work), reasons)?;
            let ((global, objects), score) = rated;
            return Ok(Rated { global, objects, segmentation, reasons, segment, score });
        }
        let (global, whole_time) =
            limiter.run(self.priority, self.rate_crop(crop_whole(picture))).await?;
        if !settings.needs_objects(&global) {
            let segmentation = Segmentation::skipped(picture.width(), picture.height());
            let reasons = self.reasons(decoded, &segmentation).await;
            return Ok(Rated {
                global,
                objects: Vec::new(),
                segmentation,
                reasons,
                segment: Duration::ZERO,
                score: whole_time,
            });
        }
        let (segmentation, segment) = self.segment(picture).await?;
        let rated = limiter.run(self.priority, self.rate_regions(picture, &segmentation));
        let reasons = self.reasons(decoded, &segmentation).map(Ok);
        let ((objects, objects_time), reasons) = futures::try_join!(rated, reasons)?;
        let score = whole_time + objects_time;
        Ok(Rated { global, objects, segmentation, reasons, segment, score })
    }

    async fn rate_regions(
        &self,
        picture: &Picture,
        segmentation: &Segmentation,
    ) -> Result<Vec<ObjectAssessment>, JourneyError> {
        let Resources { parts, score: limiter, .. } = &*self.resources;
        let pixels = picture.area_px();
        let area = &MemoryBudget::new(CROPS_AREA_MAX * pixels);
        let rate_region = |index: usize| {
            let region = segmentation.regions[index].clone();
            let picture = picture.clone();
            let (mode, margin) = (parts.settings.crop, parts.settings.crop_margin);
            async move {
                let bbox = margin.extend(region.mask.bbox(), picture.pixels().dimensions());
                let area_px = u64::from(bbox.width) * u64::from(bbox.height);
                let _share = area.reserve(area_px, self.priority).await;
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
        let rating = self.engine.rate(crop, parts.settings.score.timeout).await;
        rating.map_err(|error| JourneyError::engine(Stage::Score, &error))
    }

    async fn reasons(&self, decoded: &Decoded, segmentation: &Segmentation) -> MeasuredReasons {
        let Resources { measure: limiter, reasons, .. } = &*self.resources;
        let Some(stage) = reasons else { return MeasuredReasons::default() };
        let picture = (&decoded.picture, &decoded.share);
        stage.measure(limiter, self.priority, picture, &segmentation.regions).await
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
        let (measures, time) = limiter.run_within_timeout(self.priority, work).await?;
        Ok(Measured { measures, time: Some(time) })
    }
}

/// All ratings of an image, with the time for finding and for rating its objects.
struct Rated {
    global: LevelDistribution,
    objects: Vec<ObjectAssessment>,
    segmentation: Segmentation,
    reasons: MeasuredReasons,
    segment: Duration,
    score: Duration,
}

/// A picture and its share of the budget, held until the event is built.
pub(super) struct Decoded {
    pub(super) picture: Picture,
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

/// Adds two durations; `None` without both.
fn added(first: Option<Duration>, second: Option<Duration>) -> Option<Duration> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first + second),
        _ => first.or(second),
    }
}
