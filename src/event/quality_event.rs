//! The answer for one image: scores for the whole and for every object in it, and what they rest on.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::SCHEMA_VERSION;
use super::reference::ImageReference;
use crate::method::{
    Assessment, BoundingBox, LevelDistribution, ObjectAssessment, PolicyOutcome, PolicyVerdict,
    RegionKind, Rle, Segmentation, Standard,
};

/// Namespace of the event ids; drawn once for this contract.
const EVENT_ID_NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_41a6_9b57_4f0e_8a2d_c3e1_7f46_90b8);

/// Quality of one image, as a whole and object by object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QualityEvent {
    /// Version of this contract: 1.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// Names this event; the same for the same input, so that repeats can be told.
    #[schemars(extend("format" = "uuid"))]
    pub event_id: String,
    /// When the assessment was finished (RFC 3339, UTC, milliseconds).
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub event_time: DateTime<Utc>,
    /// What was asked for.
    pub reference: EventReference,
    /// The image that was found there.
    pub image: EventImage,
    /// The combined score from the most probable levels, as in the paper:
    /// `(global + local) / 2 + segmentation`; from 1 to 2K, usually to K.
    pub score: f64,
    /// The same combination from the expected levels; moves in finer steps.
    pub score_expected: f64,
    /// Rating of the whole image.
    pub global: Rating,
    /// Combined level of the objects, 1 to K; absent when no region is large enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<f64>,
    /// How the image was cut into regions, and what that adds to the score.
    pub segmentation: SegmentationSummary,
    /// Every region with its rating.
    pub objects: Vec<ObjectQuality>,
    /// What the policy advises; absent when no policy applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<EventVerdict>,
    /// Who rated, with which standard and weights.
    pub engine: EngineProvenance,
    /// How long each station took.
    pub timings_ms: TimingsMs,
    /// The record that asked; absent outside the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventReference {
    /// The sender's name for the image.
    pub id: String,
    /// Where the image is.
    pub uri: String,
    /// The sender's own data, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// The image that was assessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventImage {
    /// Width in pixels, upright.
    #[schemars(range(min = 1))]
    pub width: u32,
    /// Height in pixels, upright.
    #[schemars(range(min = 1))]
    pub height: u32,
    /// File format, by content: `jpeg`, `png`, `webp`, `gif`, `bmp` or `tiff`.
    pub format: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file in hexadecimal.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// The store's version of the object, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// A scorer's answer for the whole image or one region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rating {
    /// The most probable level, 1 to K.
    #[schemars(range(min = 1, max = 9))]
    pub level: u8,
    /// The standard's word for the level.
    pub word: String,
    /// Mean of the levels, 1 to K.
    #[schemars(range(min = 1, max = 9))]
    pub expected: f64,
    /// Probability of the level.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// Probability of each level from 1 to K; they sum to 1.
    #[schemars(length(min = 2, max = 9), inner(range(min = 0, max = 1)))]
    pub probabilities: Vec<f64>,
    /// A second opinion, where the scorer is asked for it: how far its next words point from bad to
    /// good quality. Larger is better; the scale is the model's own, so it ranks and is not a level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<f64>,
}

/// How the image was cut into regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentationSummary {
    /// What the number of regions adds to the score: `mask_count · K / c_max`, at most K.
    #[schemars(range(min = 0, max = 9))]
    pub score: f64,
    /// Number of regions, the remainder included.
    pub mask_count: u32,
    /// The number of regions that would add K.
    #[schemars(range(min = 1))]
    pub c_max: u32,
    /// Share of the image that the regions cover.
    #[schemars(range(min = 0, max = 1))]
    pub coverage: f64,
    /// Whether objects were not looked for: the score is then the rating of the whole alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// One region and its rating.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectQuality {
    /// Its place in `objects`, from 0.
    pub index: u32,
    /// Whether it was found, or is what no found region covers.
    pub kind: RegionKind,
    /// The smallest box around it: `[x, y, width, height]` in pixels.
    #[schemars(with = "[u32; 4]")]
    pub bbox: BoundingBox,
    /// Number of its pixels (of the mask, not of the box).
    #[schemars(range(min = 1))]
    pub area: u64,
    /// Share of the image that its pixels are.
    #[schemars(range(min = 0, max = 1))]
    pub area_fraction: f64,
    /// The scorer's answer for its box.
    pub rating: Rating,
    /// The segmenter's own estimate of the mask's intersection over union.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_iou: Option<f32>,
    /// How little the mask changes when the segmenter's threshold moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability_score: Option<f32>,
    /// Its pixels as COCO run-length encoding; only where masks are asked for and fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::mask")]
    pub mask: Option<Rle>,
}

/// What a policy advises, with the numbers that spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventVerdict {
    /// The policy's name.
    pub policy: String,
    /// `pass`, `review` or `reject`.
    pub outcome: PolicyOutcome,
    /// One sentence for each threshold that was missed or is near.
    pub reasons: Vec<String>,
}

/// Who rated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineProvenance {
    /// The engine: `dog-iqa`, `classic`, or one's own.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What cut the image into regions.
    pub segmenter: String,
    /// What rated the crops.
    pub scorer: String,
    /// The standard that the scorer was given, such as `word-7`.
    pub standard: String,
    /// The row of the paper that the settings started from, such as `paper`; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// When objects are looked for: `never`, or `cascade-` with the band of expected levels and the
    /// confidence below which they are; absent where they always are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<String>,
    /// Changes with every other setting that a score depends on: how crops are cut, which masks become
    /// regions, when objects are looked for, how ratings become one score. Before the digest of all of them
    /// stand those that cost is saved by, such as `side1024-regions8-`.
    #[serde(default)]
    pub settings: String,
    /// The weights that were loaded; empty for an engine without.
    pub weights: Vec<WeightsDigest>,
}

/// One file of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsDigest {
    /// The file's name.
    pub name: String,
    /// SHA-256 of the file in hexadecimal.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// How long each station took, in milliseconds; waiting for a place counts where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TimingsMs {
    /// Reading the image out of storage.
    #[schemars(range(min = 0))]
    pub fetch: f64,
    /// Bytes to pixels.
    #[schemars(range(min = 0))]
    pub decode: f64,
    /// Pixels to masks.
    #[schemars(range(min = 0))]
    pub segment: f64,
    /// Rating the whole image and every crop.
    #[schemars(range(min = 0))]
    pub score: f64,
    /// From the reference to the event.
    #[schemars(range(min = 0))]
    pub total: f64,
}

impl TimingsMs {
    /// A duration in milliseconds, to the microsecond.
    pub fn of(duration: Duration) -> f64 {
        (duration.as_secs_f64() * 1e6).round() / 1e3
    }
}

/// The record that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970, where the broker gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
}

/// Everything that an event is made of.
#[derive(Debug)]
pub struct EventParts<'a> {
    /// What was asked for.
    pub reference: &'a ImageReference,
    /// The image that was found there.
    pub image: EventImage,
    /// The method's answer.
    pub assessment: &'a Assessment,
    /// The regions the answer is about.
    pub segmentation: &'a Segmentation,
    /// The standard that gives levels their words.
    pub standard: &'a Standard,
    /// Who rated.
    pub engine: EngineProvenance,
    /// What the policy advises.
    pub verdict: Option<PolicyVerdict>,
    /// How long each station took.
    pub timings: TimingsMs,
    /// The record that asked.
    pub source: Option<Source>,
    /// When the assessment was finished.
    pub time: DateTime<Utc>,
    /// Whether the event carries the regions' pixels.
    pub include_masks: bool,
    /// The setting that the segmentation score was computed with.
    pub c_max: u32,
}

impl QualityEvent {
    /// Puts an event together; its id follows from the parts alone.
    pub fn new(parts: EventParts<'_>) -> Self {
        let EventParts { reference, assessment, standard, include_masks, .. } = parts;
        let objects = assessment
            .objects
            .iter()
            .zip(0_u32..)
            .map(|(object, index)| ObjectQuality::new(index, object, standard, include_masks));
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
            global: Rating::new(&assessment.global, standard),
            local: assessment.local,
            segmentation: SegmentationSummary {
                score: assessment.segmentation_score,
                mask_count: u32::try_from(parts.segmentation.regions.len()).unwrap_or(u32::MAX),
                c_max: parts.c_max,
                coverage: parts.segmentation.coverage,
                skipped: parts.segmentation.is_skipped,
            },
            objects: objects.collect(),
            image: parts.image,
            verdict: parts.verdict.map(EventVerdict::from),
            engine: parts.engine,
            timings_ms: parts.timings,
            source: parts.source,
        }
    }

    /// Leaves out the regions' pixels, for when the event is too large with them.
    pub fn remove_masks(&mut self) {
        for object in &mut self.objects {
            object.mask = None;
        }
    }

    /// The time as it stands in the event and in its headers.
    pub fn time_text(&self) -> String {
        self.event_time.to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

/// The same record gives the same id; outside the stream, the same image for the same reference by
/// the same engine does. JSON keeps the parts of the name apart.
fn event_id(parts: &EventParts<'_>) -> Uuid {
    let name = match &parts.source {
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

impl Rating {
    /// A distribution with the standard's word for its level.
    pub fn new(distribution: &LevelDistribution, standard: &Standard) -> Self {
        let level = distribution.level();
        Self {
            level,
            word: standard.word(level).to_owned(),
            expected: distribution.expected(),
            confidence: distribution.confidence(),
            probabilities: distribution.probabilities().to_vec(),
            direction: distribution.direction(),
        }
    }
}

impl ObjectQuality {
    fn new(index: u32, object: &ObjectAssessment, standard: &Standard, include_mask: bool) -> Self {
        let region = &object.region;
        Self {
            index,
            kind: region.kind,
            bbox: region.mask.bbox(),
            area: region.mask.area_px(),
            area_fraction: region.mask.area_fraction(),
            rating: Rating::new(&object.rating, standard),
            predicted_iou: region.predicted_iou,
            stability_score: region.stability_score,
            mask: include_mask.then(|| region.mask.rle().clone()),
        }
    }
}

impl From<PolicyVerdict> for EventVerdict {
    fn from(verdict: PolicyVerdict) -> Self {
        Self { policy: verdict.policy, outcome: verdict.outcome, reasons: verdict.reasons }
    }
}
