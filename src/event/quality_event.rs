//! The quality event: scores of one image and of every object in it, and their provenance.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::event::engine_provenance::EngineProvenance;
use crate::event::limits::SCHEMA_VERSION;
use crate::event::measure::EventMeasure;
use crate::event::metadata::Metadata;
use crate::event::rating::Rating;
use crate::event::reason::EventReason;
use crate::event::reference::ImageReference;
use crate::method::{
    AggregationSettings, Assessment, BoundingBox, ObjectAssessment, PolicyOutcome, PolicyVerdict,
    RegionKind, Rle, Segmentation, Standard,
};

/// Namespace of the event ids: a random value, fixed for this contract.
const EVENT_ID_NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_41a6_9b57_4f0e_8a2d_c3e1_7f46_90b8);

/// Quality of one image, as a whole and object by object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QualityEvent {
    /// Version of this contract: 1.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// Id of this event. The same input always gets the same id, so that duplicates can be
    /// recognised.
    #[schemars(extend("format" = "uuid"))]
    pub event_id: String,
    /// Time at which the assessment was finished (RFC 3339, UTC, milliseconds).
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub event_time: DateTime<Utc>,
    /// The image reference that this event answers.
    pub reference: EventReference,
    /// The image that was assessed.
    pub image: EventImage,
    /// The combined score of the levels. By the formula `paper`: `(global + local) / 2 +
    /// segmentation`; from 1 to 2K, usually to K. `engine.formula` names the formula; others have
    /// other ranges.
    pub score: f64,
    /// The same combination of the expected levels, which has finer steps.
    pub score_expected: f64,
    /// People's opinion of the image on their scale, such as a mean opinion score, as
    /// `method.calibration` predicts it from the score. Absent without a calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_mos: Option<f64>,
    /// Rating of the whole image.
    pub global: Rating,
    /// Combined level of the objects. Absent if no region is large enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<f64>,
    /// The segmentation into regions, and its contribution to the score.
    pub segmentation: SegmentationSummary,
    /// Every region with its rating.
    pub objects: Vec<ObjectQuality>,
    /// Hand-crafted metrics of the whole image, in the order of `pipeline.measures`. They do not
    /// affect the score. Absent if none are configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<EventMeasure>,
    /// Distortions of the image and of its objects that are strong enough to mention. They do not
    /// affect the score. Empty if there are none; absent if `pipeline.reasons` is off, or if they
    /// could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<EventReason>>,
    /// Verdict of the policy. Absent if no policy applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<EventVerdict>,
    /// The most similar of the last images of the same tenant, if `pipeline.duplicates` is set and
    /// it is within the distance. Each worker knows only the images that it scored itself since its
    /// start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<DuplicateOf>,
    /// True if the ratings are those of an earlier image with the same bytes, from the cache. No
    /// network ran, and the times of all stages but `fetch` are 0. Absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// The engine that rated the image, with its standard and weights.
    pub engine: EngineProvenance,
    /// Duration of each stage.
    pub timings_ms: TimingsMs,
    /// The record of the reference. Absent outside the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// The image reference that an event answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventReference {
    /// The sender's id of the image.
    pub id: String,
    /// Location of the image.
    pub uri: String,
    /// The sender's own data, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub metadata: Option<Metadata>,
}

/// The image that was assessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventImage {
    /// Width in pixels, upright unless `imaging.orientation` is `as-stored`.
    #[schemars(range(min = 1))]
    pub width: u32,
    /// Height in pixels, like the width.
    #[schemars(range(min = 1))]
    pub height: u32,
    /// Format, by content: `jpeg`, `png`, `webp`, `gif`, `bmp`, `tiff`, `heic`, `avif` or `jxl`.
    pub format: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file in hexadecimal.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// The store's version of the object, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// 64-bit perceptual hash (dHash) of the picture in hexadecimal, if `pipeline.phash` is set.
    /// Pictures that look alike differ in few bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{16}$"))]
    pub phash: Option<String>,
}

/// An earlier image that looks the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DuplicateOf {
    /// Id of the earlier image's reference.
    pub id: String,
    /// Number of bits in which the perceptual hashes differ; 0 if they are equal.
    #[schemars(range(min = 0, max = 64))]
    pub distance: u32,
}

/// The segmentation of the image into regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentationSummary {
    /// Contribution of the number of regions to the score: `mask_count · K / c_max`, at most K, or
    /// `mask_count · mask_bonus`.
    #[schemars(range(min = 0))]
    pub score: f64,
    /// Number of regions, the remainder included.
    pub mask_count: u32,
    /// Number of regions that contributes K without a `mask_bonus`.
    #[schemars(range(min = 1))]
    pub c_max: u32,
    /// Contribution of each region. Absent if the setting `method.aggregation.mask_bonus` is
    /// `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub mask_bonus: Option<f64>,
    /// Share of the image's pixels that the regions cover.
    #[schemars(range(min = 0, max = 1))]
    pub coverage: f64,
    /// True if objects were not segmented. The rating of the whole image then takes the place of
    /// `local` in the score.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// One region and its rating.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectQuality {
    /// Position in `objects`, from 0.
    pub index: u32,
    /// Kind of the region: found by the segmenter, the rest of the image, or the whole image.
    pub kind: RegionKind,
    /// Bounding box: `[x, y, width, height]` in pixels.
    #[schemars(with = "[u32; 4]")]
    pub bbox: BoundingBox,
    /// Number of pixels in the mask (not in the box).
    #[schemars(range(min = 0))]
    pub area: u64,
    /// Area that weights the region in `local`, in pixels. Absent if it is `area`; see
    /// `method.regions.remainder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_px: Option<u64>,
    /// Share of the image's pixels that are in the mask.
    #[schemars(range(min = 0, max = 1))]
    pub area_fraction: f64,
    /// Rating of the box.
    pub rating: Rating,
    /// The segmenter's estimate of the mask's intersection over union.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_iou: Option<f32>,
    /// Stability of the mask under changes of the segmenter's threshold; 1 is no change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability_score: Option<f32>,
    /// The mask as COCO run-length encoding. Present only if masks are enabled and the event is not
    /// too large with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::event::mask_schema::mask")]
    pub mask: Option<Rle>,
}

/// The verdict of a policy, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventVerdict {
    /// Name of the policy.
    pub policy: String,
    /// `pass`, `review` or `reject`.
    pub outcome: PolicyOutcome,
    /// One sentence for each threshold that was missed or nearly missed, and for each of `reasons`
    /// that the policy names.
    pub reasons: Vec<String>,
}

/// Duration of each stage in milliseconds, including the wait for a free slot.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TimingsMs {
    /// Reading the image from storage.
    #[schemars(range(min = 0))]
    pub fetch: f64,
    /// Decoding bytes to pixels.
    #[schemars(range(min = 0))]
    pub decode: f64,
    /// Segmenting pixels to masks.
    #[schemars(range(min = 0))]
    pub segment: f64,
    /// Rating the whole image and every crop.
    #[schemars(range(min = 0))]
    pub score: f64,
    /// Computing the `measures` and the `reasons`, at the same time as `segment` and `score`.
    /// Absent without both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub measure: Option<f64>,
    /// Everything from the reference to the event.
    #[schemars(range(min = 0))]
    pub total: f64,
}

impl TimingsMs {
    /// Returns a duration in milliseconds, rounded to microseconds.
    pub fn of(duration: Duration) -> f64 {
        (duration.as_secs_f64() * 1e6).round() / 1e3
    }
}

/// The record of a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Topic of the record.
    pub topic: String,
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record in its partition.
    pub offset: i64,
    /// Timestamp of the record in milliseconds since 1970, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// Position of the object in the record, from 0. Present only if the record names several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
}

/// The parts of an event.
#[derive(Debug)]
pub struct EventParts<'a> {
    /// The reference that the event answers.
    pub reference: &'a ImageReference,
    /// The image that was assessed.
    pub image: EventImage,
    /// The ratings and scores.
    pub assessment: &'a Assessment,
    /// The rated regions.
    pub segmentation: &'a Segmentation,
    /// The standard with the words of the levels.
    pub standard: &'a Standard,
    /// Values of the hand-crafted metrics.
    pub measures: Vec<EventMeasure>,
    /// Reasons for the quality, or `None` if they were not measured.
    pub reasons: Option<Vec<EventReason>>,
    /// The engine that rated the image.
    pub engine: EngineProvenance,
    /// Verdict of the policy.
    pub verdict: Option<PolicyVerdict>,
    /// Duration of each stage.
    pub timings: TimingsMs,
    /// The record of the reference.
    pub source: Option<Source>,
    /// Time at which the assessment was finished.
    pub time: DateTime<Utc>,
    /// True if the event contains the masks of the regions.
    pub include_masks: bool,
    /// The settings of the score.
    pub aggregation: &'a AggregationSettings,
    /// People's opinion as the calibration predicts it.
    pub score_mos: Option<f64>,
}

impl QualityEvent {
    /// Builds an event of an image that is no duplicate and was rated now. Its id depends only on
    /// the parts.
    pub fn new(parts: EventParts<'_>) -> Self {
        let EventParts { reference, assessment, standard, include_masks, .. } = parts;
        let objects = assessment.objects.iter().zip(0_u32..).map(|(object, index)| {
            let mask = include_masks.then(|| object.region.mask.rle().clone());
            ObjectQuality { mask, ..ObjectQuality::without_mask(index, object, standard) }
        });
        Self {
            schema_version: SCHEMA_VERSION,
            event_id: event_id(&parts).to_string(),
            event_time: parts.time.trunc_subsecs(3),
            reference: EventReference {
                id: reference.id.clone(),
                uri: reference.uri.clone(),
                metadata: reference.metadata.clone(),
            },
            score: assessment.score,
            score_expected: assessment.score_expected,
            score_mos: parts.score_mos,
            global: Rating::new(&assessment.global, standard),
            local: assessment.local,
            segmentation: SegmentationSummary {
                score: assessment.segmentation_score,
                mask_count: u32::try_from(parts.segmentation.regions.len()).unwrap_or(u32::MAX),
                c_max: parts.aggregation.c_max.get(),
                mask_bonus: parts.aggregation.mask_bonus.each(),
                coverage: parts.segmentation.coverage,
                skipped: parts.segmentation.is_skipped,
            },
            objects: objects.collect(),
            measures: parts.measures,
            reasons: parts.reasons,
            image: parts.image,
            verdict: parts.verdict.map(EventVerdict::from),
            duplicate_of: None,
            cached: false,
            engine: parts.engine,
            timings_ms: parts.timings,
            source: parts.source,
        }
    }

    /// Returns the event as that of a second engine. Its id differs from that of the first engine's
    /// event for the same record, and from that of other second engines.
    #[must_use]
    pub fn of_shadow(mut self) -> Self {
        let Self { event_id, engine, .. } = &self;
        let name = serde_json::json!([
            "shadow",
            event_id,
            engine.name,
            engine.version,
            engine.standard,
            engine.settings,
            engine.changed_settings,
        ]);
        self.event_id = Uuid::new_v5(&EVENT_ID_NAMESPACE, name.to_string().as_bytes()).to_string();
        self
    }

    /// Removes the masks, which may make the event too large.
    pub fn remove_masks(&mut self) {
        for object in &mut self.objects {
            object.mask = None;
        }
    }

    /// Returns the time as written in the event and its headers.
    pub fn time_text(&self) -> String {
        self.event_time.to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

/// Derives the id from the record; outside the stream, from reference, image and engine. The parts
/// of the name are written as JSON, so that different parts never form the same name.
fn event_id(parts: &EventParts<'_>) -> Uuid {
    let name = match &parts.source {
        Some(Source { topic, partition, offset, index: Some(index), .. }) => {
            serde_json::json!(["record", topic, partition, offset, index])
        }
        Some(Source { topic, partition, offset, .. }) => {
            serde_json::json!(["record", topic, partition, offset])
        }
        None => serde_json::json!([
            "image",
            parts.reference.id,
            parts.reference.uri,
            parts.image.sha256,
            parts.engine.name,
            parts.engine.version,
            parts.engine.standard,
            parts.engine.settings,
        ]),
    };
    Uuid::new_v5(&EVENT_ID_NAMESPACE, name.to_string().as_bytes())
}

impl ObjectQuality {
    fn without_mask(index: u32, object: &ObjectAssessment, standard: &Standard) -> Self {
        let region = &object.region;
        let area = region.mask.area_px();
        Self {
            index,
            kind: region.kind,
            bbox: region.mask.bbox(),
            area,
            weight_px: (region.weight_px != area).then_some(region.weight_px),
            area_fraction: region.mask.area_fraction(),
            rating: Rating::new(&object.rating, standard),
            predicted_iou: region.predicted_iou,
            stability_score: region.stability_score,
            mask: None,
        }
    }
}

impl From<PolicyVerdict> for EventVerdict {
    fn from(verdict: PolicyVerdict) -> Self {
        Self { policy: verdict.policy, outcome: verdict.outcome, reasons: verdict.reasons }
    }
}
