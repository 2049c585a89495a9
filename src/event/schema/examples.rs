//! Example messages, built by the code that builds the real ones.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::event::cloudevent_headers;
use crate::event::dead_letter::DeadLetterReason;
use crate::event::engine_provenance::{EngineProvenance, ScorerSettings};
use crate::event::measure::EventMeasure;
use crate::event::quality_event::{EventImage, EventParts, QualityEvent, Source, TimingsMs};
use crate::event::reason::EventReason;
use crate::event::reference::ImageReference;
use crate::event::trace::TraceContext;
use crate::method::{
    AggregationSettings, Assessment, LevelDistribution, Mask, ObjectAssessment, Policy,
    PolicySettings, PolicyVerdict, RawMask, Reason, ReasonCode, RegionSettings, Rle, Scope,
    Segmentation, Standard, StandardForm, assess, select_regions,
};
use crate::metrics::{Metric, Undefined};

/// 2026-11-23 09:30:00 UTC, in milliseconds.
const RECORD_TIME_MS: i64 = 1_795_426_200_000;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

/// Returns every example with its file name below `schemas/`.
pub(crate) fn all() -> impl Iterator<Item = (String, Value)> {
    [
        ("image-reference-smallest", smallest_reference()),
        ("image-reference", full_reference()),
        ("image-reference-cloudevent", structured_reference()),
        ("quality-event", event()),
        ("quality-event-headers", event_headers()),
        ("dead-letter-headers", dead_letter_headers()),
    ]
    .into_iter()
    .map(|(name, document)| (format!("examples/{name}.json"), document))
}

pub(crate) fn smallest_reference() -> Value {
    json!({ "uri": "s3://photos/2026/coffee.jpg" })
}

pub(crate) fn full_reference() -> Value {
    json!(reference())
}

pub(crate) fn structured_reference() -> Value {
    json!({
        "specversion": "1.0",
        "id": "upload-4711",
        "source": "/uploads",
        "type": "com.example.image.uploaded",
        "data": smallest_reference()
    })
}

pub(crate) fn event() -> Value {
    json!(quality_event())
}

pub(crate) fn event_headers() -> Value {
    object(cloudevent_headers::headers_for(&quality_event(), Some(&trace())))
}

pub(crate) fn shadow_event() -> Value {
    let mut event = quality_event().of_shadow();
    event.remove_masks();
    event.measures.clear();
    json!(event)
}

pub(crate) fn shadow_event_headers() -> Value {
    let event = quality_event().of_shadow();
    let mut headers = cloudevent_headers::headers_for(&event, Some(&trace()));
    headers.push((cloudevent_headers::SHADOW_HEADER.to_owned(), "true".to_owned()));
    object(headers)
}

pub(crate) fn dead_letter_headers() -> Value {
    let reason = DeadLetterReason {
        code: "fetch.not_found".to_owned(),
        message: "there is no object at s3://photos/2026/coffee.jpg".to_owned(),
        stage: "fetch".to_owned(),
        attempts: 1,
        time: time(1_250),
        group: "dogiqa".to_owned(),
        version: "0.1.0".to_owned(),
        original: source(),
    };
    object(reason.headers())
}

fn object(headers: Vec<(String, String)>) -> Value {
    let fields = headers.into_iter().map(|(name, value)| (name, Value::String(value)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn time(after_record_ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(RECORD_TIME_MS + after_record_ms).unwrap_or_default()
}

fn source() -> Source {
    Source {
        topic: "image-references".to_owned(),
        partition: 2,
        offset: 1_041,
        timestamp: Some(RECORD_TIME_MS),
        index: None,
    }
}

fn trace() -> TraceContext {
    TraceContext::root(
        0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes(),
        0xb7ad_6b71_6920_3331_u64.to_be_bytes(),
    )
}

fn reference() -> ImageReference {
    let metadata = r#"{"listing":4711,"seller":"a-1"}"#;
    ImageReference {
        id: "listing-4711".to_owned(),
        etag: Some("9b2cf535f27731c974343645a3985328".to_owned()),
        sha256: Some(SHA256.to_owned()),
        policy: Some("shop".to_owned()),
        metadata: serde_json::from_str(metadata).ok(),
        ..ImageReference::new("s3://photos/2026/coffee.jpg")
    }
}

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn quality_event() -> QualityEvent {
    let standard = Standard::builtin(7, StandardForm::Word).expect("seven levels are built in");
    let settings = AggregationSettings::default();
    let segmentation = segmentation();
    let levels: [[f64; 7]; 3] = [
        [0.0, 0.0, 0.05, 0.15, 0.45, 0.3, 0.05],
        [0.0, 0.05, 0.4, 0.35, 0.15, 0.05, 0.0],
        [0.0, 0.0, 0.1, 0.5, 0.3, 0.1, 0.0],
    ];
    let objects = segmentation.regions.iter().zip(levels).map(|(region, levels)| {
        ObjectAssessment { region: region.clone(), rating: rating(levels) }
    });
    let global = rating([0.0, 0.0, 0.05, 0.2, 0.5, 0.2, 0.05]);
    let assessment = assess(global, objects.collect(), &settings);
    let reference = reference();
    QualityEvent::new(EventParts {
        image: EventImage {
            width: WIDTH,
            height: HEIGHT,
            format: "jpeg".to_owned(),
            bytes: 84_122,
            sha256: SHA256.to_owned(),
            etag: reference.etag.clone(),
            phash: Some("3c3e0f0f8d1c9c38".to_owned()),
        },
        verdict: Some(verdict(&assessment)),
        engine: EngineProvenance {
            preset: None,
            formula: Some(settings.formula()),
            name: "classic".to_owned(),
            version: "0.1.0".to_owned(),
            segmenter: "felzenszwalb".to_owned(),
            scorer: "no-reference-measures".to_owned(),
            scorers: Vec::new(),
            scorer_settings: ScorerSettings::default(),
            standard: standard.name(),
            objects: None,
            settings: "5f0c19aa".to_owned(),
            changed_settings: BTreeMap::new(),
            weights: Vec::new(),
            servers: Vec::new(),
        },
        timings: TimingsMs {
            fetch: 12.4,
            decode: 6.1,
            segment: 48.75,
            score: 31.2,
            measure: Some(38.4),
            total: 101.3,
        },
        measures: vec![
            EventMeasure::new(Metric::Niqe, Ok(3.62), "1/fa2aa4d1".to_owned()),
            EventMeasure::new(Metric::Biqi, Err(Undefined::NoBlockiness), "1/7c9e6679".to_owned()),
            EventMeasure::new(Metric::Piqe, Ok(27.5), "1".to_owned()),
        ],
        reasons: Some(reasons().map(|(reason, text)| EventReason::new(reason, text)).into()),
        source: Some(source()),
        time: time(250),
        include_masks: true,
        aggregation: &settings,
        score_mos: None,
        reference: &reference,
        assessment: &assessment,
        segmentation: &segmentation,
        standard: &standard,
    })
}

fn reasons() -> [(Reason, &'static str); 2] {
    let dark = Reason { code: ReasonCode::TooDark, strength: 0.38, scope: Scope::IMAGE };
    let noisy = Reason { code: ReasonCode::Noisy, strength: 0.55, scope: Scope::Region(1) };
    [
        (dark, "The photo is too dark; use more light or a longer exposure."),
        (noisy, "The photo is grainy; take it again with more light."),
    ]
}

fn verdict(assessment: &Assessment) -> PolicyVerdict {
    let settings = PolicySettings {
        score_min: Some(4.0),
        object_score_min: Some(3.0),
        reject_reasons: vec!["too_dark:0.5".parse().expect("it is a condition")],
        ..PolicySettings::default()
    };
    let policy = Policy::new("shop".to_owned(), settings);
    let measured = reasons().map(|(reason, _)| reason);
    policy.with_reasons(policy.judge(assessment), assessment, Some(&measured))
}

/// A cup and a spoon on a table.
fn segmentation() -> Segmentation {
    let cup = raw_mask(|x, y| (180..420).contains(&x) && (120..380).contains(&y));
    let spoon = raw_mask(|x, y| (440..600).contains(&x) && (300..340).contains(&y));
    select_regions(WIDTH, HEIGHT, vec![cup, spoon], &RegionSettings::default())
        .expect("the masks have the size of the picture")
}

fn raw_mask(is_set: impl Fn(u32, u32) -> bool) -> RawMask {
    let rle = Rle::from_row_major(WIDTH, HEIGHT, is_set).expect("the picture has pixels");
    let mask = Mask::new(rle).expect("the rectangle is within the picture");
    RawMask { mask, predicted_iou: Some(0.94), stability_score: Some(0.97) }
}

fn rating(probabilities: [f64; 7]) -> LevelDistribution {
    LevelDistribution::new(probabilities.to_vec()).expect("the probabilities sum to 1")
}
